//! Stand-in until the machine is merged.
#[derive(Default, Debug)]
pub struct Cursor(usize);
impl Cursor { pub fn new() -> Cursor { Cursor(0) } pub fn step(&mut self) -> usize { self.0 += 1; self.0 } }
#[derive(PartialEq, Eq, Debug, Clone, Copy)]
pub enum Progress { More, Done }
#[derive(Debug)]
pub struct Broken;
