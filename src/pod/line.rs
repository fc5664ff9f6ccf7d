//! Facts as console lines.

use super::facts::{Fact, World};

impl Fact {
    pub fn line(&self, _world: &World) -> Option<String> {
        None
    }
}
