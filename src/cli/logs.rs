//! logs
use super::args::Logs;
use super::{Failure, World};
pub fn logs(_: &Logs, _: &mut World<'_>) -> Result<(), Failure> {
    Ok(())
}
