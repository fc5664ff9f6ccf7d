//! Reading a log back.
#[derive(Default)]
pub struct Options;
pub fn read() {}
