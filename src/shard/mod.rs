//! One core's worth of partitions, pure.

pub mod inbox;
pub mod outbox;
pub mod waiting;
