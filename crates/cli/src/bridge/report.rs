//! `synddb bridge report-equivocation`: two objects that one key signed for one place, to the contract that freezes it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use synddb_chain::Deployment;
use synddb_protocol::limits::CHECKPOINT_BYTES_MAX;
use synddb_relayer::{FeePolicy, Reported, report_equivocation};

use super::{ReportArguments, contracts};
use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output};
use crate::process;
use crate::refusal::Refusal;

pub(super) fn run(arguments: &ReportArguments, output: Output) -> Result<Exit, CommandError> {
    let untold = |fix| Refusal::Untold { fix };
    let of = &arguments.of;
    let stream = of.stream.ok_or_else(|| untold("name the stream with --stream"))?;
    let record = of.deployments.as_deref();
    let record = record.ok_or_else(|| untold("name the record of the deployment with --deployments"))?;
    let rpc = of.rpc.as_deref().ok_or_else(|| untold("name a node of the chain with --rpc"))?;
    let deployed = Deployment::read(record, stream)?;
    let (first, second) = (object(&arguments.first)?, object(&arguments.second)?);
    let (gas_max, fee_per_gas_wei_max) = (arguments.gas_max, arguments.fee_per_gas_wei_max);
    let fees = FeePolicy { gas_max, fee_per_gas_wei_max, ..FeePolicy::default() };
    let Reported { proven, transaction, block } = process::ask(async {
        let (contracts, account) = (contracts(rpc, deployed)?, &arguments.account);
        Ok(report_equivocation(&contracts, account, &fees, &first, &second).await?)
    })?;
    output.tell(&Event::Reported {
        key_id: proven.key.to_string(),
        epoch: proven.epoch,
        sequence: proven.sequence,
        transaction: format!("0x{}", hex::encode(transaction)),
        block,
    })?;
    Ok(Exit::Done)
}

/// An object of the log, of which none of this kind is larger.
fn object(file: &Path) -> Result<Vec<u8>, CommandError> {
    let failed = || CommandError::system("read an object of the log");
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(failed())?;
    opened.take(CHECKPOINT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed())?;
    Ok(bytes)
}
