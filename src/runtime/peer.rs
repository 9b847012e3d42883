//! The peer port while there are no peers: it accepts, reads nothing of use, and lets go.
//!
//! Liveness probes connect and hang up. Whatever else comes is read and dropped within a bound, so
//! that garbage costs a little time and no memory. Links to other nodes replace this.

use std::time::Duration;

use futures_lite::FutureExt;
use glommio::net::TcpListener;

use super::tcp::Socket;

/// Accepts until the task is dropped.
pub async fn accept(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok(stream) => {
                glommio::spawn_local(hear_out(Socket::accepted(stream))).detach();
            }
            Err(error) => {
                tracing::warn!(%error, "no peer can be accepted");
                glommio::timer::sleep(PAUSE).await;
            }
        }
    }
}

async fn hear_out(mut socket: Socket) {
    let heard = async {
        let mut sink = [0; 1024];
        for _ in 0..READS_MAX {
            let read = std::future::poll_fn(|context| socket.poll_read(context, &mut sink)).await;
            if !matches!(read, Ok(octets) if octets > 0) {
                break;
            }
        }
    };
    heard.or(async { glommio::timer::sleep(PATIENCE).await }).await;
}

const PAUSE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(5);
const READS_MAX: usize = 64;
