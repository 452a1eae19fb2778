//! The table.
fn main() {}
