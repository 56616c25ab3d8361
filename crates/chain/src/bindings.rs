//! The contracts as this code knows them: from the interfaces that their build wrote, so that a selector cannot differ.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "written by a macro from `contracts/snapshots/abi`"
)]

pub(crate) mod bridge {
    alloy_sol_types::sol!(
        #[derive(Debug)]
        Bridge,
        "../../contracts/snapshots/abi/Bridge.json"
    );
}

pub(crate) mod keys {
    alloy_sol_types::sol!(
        #[derive(Debug)]
        TeeKeyManager,
        "../../contracts/snapshots/abi/TeeKeyManager.json"
    );
}

pub(crate) mod checkpoints {
    alloy_sol_types::sol!(
        #[derive(Debug)]
        CheckpointRegistry,
        "../../contracts/snapshots/abi/CheckpointRegistry.json"
    );
}
