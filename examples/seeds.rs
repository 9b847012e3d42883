//! scratch
use ringraft::sim::{Options, run_setup, setup::Setup};
fn main() {
    let args: Vec<u64> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let none = std::env::var_os("NOCLIENTS").is_some();
    let story = std::env::var_os("STORY").is_some();
    std::panic::set_hook(Box::new(|info| {
        if std::env::var_os("BT").is_some() { eprintln!("{info}\n{}", std::backtrace::Backtrace::force_capture()); }
    }));
    let mut bad = vec![];
    let t0 = std::time::Instant::now();
    let mut ev = 0;
    let mut ops = (0, 0);
    let mut keys = (0, 0);
    for seed in args[0]..args[1] {
        let mut setup = Setup::drawn(seed);
        if none { setup.clients.clear(); }
        let t = std::time::Instant::now();
        let r = run_setup(setup, Options { story });
        ev += r.events; ops.0 += r.operations.0; ops.1 += r.operations.1; keys.0 += r.keys.0; keys.1 += r.keys.1;
        if std::env::var_os("EACH").is_some() { println!("seed {seed}: {:.2}s {} ev {:?} {:?} sim {:.1}s", t.elapsed().as_secs_f64(), r.events, r.operations, r.keys, r.took_ns as f64/1e9); }
        if story { for l in &r.story { println!("{l}"); } }
        if !r.is_fine() {
            bad.push(seed);
            if std::env::var_os("FULL").is_some() { println!("{r}"); } else {
            println!("seed {seed}: {}", r.wrong.iter().take(3).map(|w| w.lines().take(4).collect::<Vec<_>>().join(" / ")).collect::<Vec<_>>().join("\n   ").chars().take(700).collect::<String>()); }
        }
    }
    println!("bad {} of {}: {bad:?}; {ev} events, ops {ops:?}, keys {keys:?}, {:.1}s", bad.len(), args[1]-args[0], t0.elapsed().as_secs_f64());
}
