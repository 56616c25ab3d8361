//! Whom transactions are paid by, and through which node they are sent.

use synddb_chain::submit::Submitter;
use synddb_chain::{Contracts, EndpointError, Finality, Reverted};
use synddb_protocol::id::Address;

use crate::relay::Policy;

/// An account on the chain, and what it is used through.
pub(crate) struct Payer {
    pub(crate) contracts: Contracts,
    pub(crate) submitter: Submitter,
    pub(crate) account: Address,
    pub(crate) finality: Finality,
}

/// Why a call is not made.
pub(crate) enum Unaffordable {
    /// It would revert.
    Reverted(Reverted),
    /// The account has too little for it.
    TooLittle(String),
    /// The node does not tell.
    Unknown(EndpointError),
}

impl Payer {
    /// Gas that a call takes, where the account has enough for it.
    pub(crate) async fn affordable(
        &self,
        to: Address,
        data: &[u8],
        policy: &Policy,
    ) -> Result<u64, Unaffordable> {
        let endpoint = self.contracts.endpoint();
        let gas = endpoint.estimate_gas(self.account, to, data).await.map_err(|error| {
            error.reverted().map(Reverted::of).map_or(Unaffordable::Unknown(error), Unaffordable::Reverted)
        })?;
        let fees =
            endpoint.fees(policy.fees.fee_per_gas_wei_max.into()).await.map_err(Unaffordable::Unknown)?;
        let balance = endpoint.balance(self.account).await.map_err(Unaffordable::Unknown)?;
        let needed = u128::from(policy.fees.limited(gas)).saturating_mul(fees.max_fee);
        if balance < needed {
            return Err(Unaffordable::TooLittle(format!(
                "the account has too little for the gas; send it some. account=`{}` balance=`{balance}` needed=`{needed}`",
                self.account
            )));
        }
        Ok(gas)
    }
}
