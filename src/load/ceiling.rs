//! What bounds a node: an echo that does nothing else, and a disk that does nothing else.
//!
//! The echoes answer the calls of the counter workload with octets of the same form as a node's, on
//! one thread of this process that is driven by the same generator: `own.rs` on the path that a
//! node's frontend uses (glommio's sockets, `wire::http2`), `h2.rs` on the h2 crate over tokio, as
//! an ordinary server would be. The disk is written and synced block by block, one at a time
//! (`disk.rs`). A node can be no faster than its echo nor a lone command than its disk.
//!
//! Absent on purpose: truth. An echo counts nothing, so nothing is checked.

pub mod core;
pub mod disk;
mod h2;
mod own;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Which echo.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Echo {
    /// On the frontend's own path.
    Own,
    /// On the h2 crate.
    H2,
}

/// An echo that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    task: u32,
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What its thread says when it is there: where it listens, and the number of the thread.
type Ready = std::sync::mpsc::Sender<io::Result<(SocketAddr, u32)>>;

impl Echo {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Echo::Own => "echo, own path",
            Echo::H2 => "echo, h2 crate",
        }
    }

    /// Starts it on a thread of its own, on this core.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(self, core: usize) -> io::Result<Running> {
        let over = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let until = Arc::clone(&over);
        let serve = move || match self {
            Echo::Own => own::serve(core, &ready, &until),
            Echo::H2 => h2::serve(core, &ready, &until),
        };
        let thread = thread::Builder::new().name("echo".to_owned()).spawn(serve)?;
        let gone = |_| io::Error::other("the echo's thread ended");
        let (address, task) = is_ready.recv().map_err(gone)??;
        Ok(Running { address, task, over, thread: Some(thread) })
    }
}

impl Running {
    /// Nanoseconds that its thread has run.
    #[must_use]
    pub fn ran_ns(&self) -> u64 {
        task_ran_ns(std::process::id(), self.task)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Nanoseconds that all threads of a process have run; 0 when there is none that may be looked at.
#[must_use]
pub fn ran_ns(pid: u32) -> u64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let number = |task: std::fs::DirEntry| task.file_name().to_str()?.parse().ok();
    tasks.flatten().filter_map(number).map(|task| task_ran_ns(pid, task)).sum()
}

fn task_ran_ns(pid: u32, task: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{task}/schedstat"));
    stat.ok().and_then(|stat| stat.split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// The number of this thread.
fn this_task() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get() as u32
}

/// The octets that answer a call of the counter workload; `None` for any other.
fn answer(path: &str) -> Option<&'static [u8]> {
    Some(match path.rsplit('/').next()? {
        // {output: {session_id: 7}}, {headers: …OK, output: {primitive_id: 7}}
        "OpenSession" => &[0x12, 0x02, 0x08, 0x07],
        "CreatePrimitive" => {
            &[0x0a, 0x06, 0x0a, 0x04, 0x0a, 0x00, 0x10, 0x01, 0x12, 0x02, 0x08, 0x07]
        }
        "KeepAlive" | "CloseSession" => &[0x12, 0x00],
        // {headers: {operation: {session: {session: {partition: {index}}}, status: OK},
        //  output_sequence_num}, output: {value}}: as long as a node's.
        "Increment" | "Get" => &[
            0x0a, 0x10, 0x0a, 0x0c, 0x0a, 0x08, 0x0a, 0x06, 0x0a, 0x04, 0x08, 0x80, 0x80, 0x04,
            0x10, 0x01, 0x10, 0x01, 0x12, 0x03, 0x08, 0x80, 0x04,
        ],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::ask::{Ask, Reply};
    use super::super::atomix;
    use super::*;
    use crate::config::Dialect;

    #[test]
    fn echoes_say_what_the_generator_understands() {
        let said = |ask: Ask| {
            let path = atomix::PATHS[atomix::path(&ask)];
            let octets = answer(path).expect("a call of the counter workload");
            let mut index = 0;
            (atomix::read(Dialect::Documented, &ask, octets, &mut index), index)
        };
        assert_eq!(said(Ask::Open).0, Ok(Reply::Id(7)));
        assert_eq!(said(Ask::Create { thing: 0 }).0, Ok(Reply::Id(7)));
        assert_eq!(said(Ask::Increment { thing: 0 }), (Ok(Reply::Number(512)), 65_536));
        assert_eq!(said(Ask::Close).0, Ok(Reply::Nothing));
        assert!(answer("/atomix.multiraft.map.v1.Map/Put").is_none());
    }
}
