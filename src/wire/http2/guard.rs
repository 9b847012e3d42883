//! Guards against frames that cost us more than they cost their sender.
//!
//! A guard is a bucket: so many at once, and so many a second after that. The bursts are far above
//! what clients do on their worst day (a thousand deadlines that pass together are a thousand
//! honest RST_STREAM; grpc-go sends a PING for every round trip under load), and what is let
//! through is cheap: the real bound on output is the high-water mark, the real bound on work is the
//! limit on streams, of which a reset one counts until the application has let go of it.

/// So many at once, refilled by time.
#[derive(Debug)]
pub struct Bucket {
    left: u64,
    burst: u64,
    per_ms: u64,
    filled_ms: u64,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(burst: u64, per_ms: u64, now_ms: u64) -> Bucket {
        assert!(burst > 0, "an empty guard lets nobody through");
        Bucket { left: burst, burst, per_ms, filled_ms: now_ms }
    }

    /// Whether there was one left at `now_ms`.
    #[inline]
    pub fn take(&mut self, now_ms: u64) -> bool {
        if now_ms > self.filled_ms {
            let grown = (now_ms - self.filled_ms).saturating_mul(self.per_ms);
            self.left = self.left.saturating_add(grown).min(self.burst);
            self.filled_ms = now_ms;
        }
        let enough = self.left > 0;
        self.left -= u64::from(enough);
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut bucket = Bucket::new(3, 2, 100);
        let mut passed = |now_ms| (0..10).filter(|_| bucket.take(now_ms)).count();
        assert_eq!(passed(100), 3);
        assert_eq!(passed(101), 2);
        assert_eq!(passed(100), 0, "time that goes back gives nothing");
        assert_eq!(passed(u64::MAX), 3, "no more than the burst, however long it took");
    }
}
