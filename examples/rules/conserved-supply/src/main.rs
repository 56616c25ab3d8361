//! `conserved-supply [CONFIG]`: a validator as any other, with one rule more.

mod supply;

use std::process::ExitCode;
use std::sync::Arc;

use synddb_validator::program::{self, OwnRules};
use synddb_validator::rules::Rule;

struct Supply;

impl OwnRules for Supply {
    fn rules() -> Vec<Arc<dyn Rule>> {
        vec![Arc::new(supply::Conserved)]
    }
}

fn main() -> ExitCode {
    program::main::<Supply>()
}
