//! The counter against plain arithmetic.

use super::*;
use crate::id::Kind;
use crate::partition::rig::*;
use crate::prng::Prng;
use crate::time::Span;

fn pair(first: i64, second: i64) -> Vec<u8> {
    let mut input = Vec::new();
    put_uint(&mut input, 1, first as u64);
    put_uint(&mut input, 2, second as u64);
    input
}

#[test]
fn it_agrees_with_plain_arithmetic() {
    for seed in 0..30 {
        let mut prng = Prng::new(seed);
        let mut rig = Rig::new();
        let session = rig.open(Span::secs(60));
        let counter = rig.create(session, 1, Kind::Counter, "c");
        let mut value = 0i64;
        for number in 2..80 {
            let tag = *prng.pick(&[INCREMENT, INCREMENT, DECREMENT, SET, UPDATE]);
            let near = (prng.below(5) as i64) - 2;
            let first = *prng.pick(&[near, near, i64::MAX, i64::MIN, value]);
            let op = Op(Kind::Counter, tag, pair(first, near));
            let said = rig.run(command(session, number, counter, &op));
            let expected = match tag {
                INCREMENT => value.checked_add(first).ok_or("counter overflow"),
                DECREMENT => value.checked_sub(first).ok_or("counter overflow"),
                SET => Ok(first),
                _ if first == value => Ok(near),
                _ => Err("optimistic lock failure"),
            };
            match expected {
                Ok(new) => {
                    value = new;
                    assert_eq!(ok(&said), pair(value, 0), "seed {seed}");
                }
                Err(text) => assert_eq!(failed(&said).1, text, "seed {seed}"),
            }
            if prng.chance(200) {
                let again = rig.run(command(session, number, counter, &op));
                assert_eq!(again, said, "seed {seed}: a repeat differs");
            }
            let read = rig.ask(session, counter, Op(Kind::Counter, GET, vec![]));
            assert_eq!(ok(&read), pair(value, 0), "seed {seed}");
        }
    }
}
