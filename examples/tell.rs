//! scratch
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    print!("{}", ringraft::sim::story::tell(&text).unwrap_or_else(|why| why));
}
