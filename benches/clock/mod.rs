//! The clocks that benches read: CPU time says what work costs on a machine that has other work
//! too.

#![allow(dead_code, reason = "each bench that has this as a module uses its part of it")]

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time of the thread that asks.
pub fn thread_cpu() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// CPU time of all threads together.
pub fn process_cpu() -> Duration {
    read(ClockId::ProcessCPUTime)
}

/// Time that never goes back, since the machine started.
pub fn monotonic() -> Duration {
    read(ClockId::Monotonic)
}

fn read(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
