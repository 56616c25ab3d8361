//! The names of what is counted. Lag is a subtraction: the sequencer's last outbound message less the one up to which everything is settled here.

use metrics::{counter, describe_counter, describe_gauge, gauge};

const RELAYED: &str = "synddb_relayer_messages_total";
const SETTLED: &str = "synddb_relayer_settled_nonce";
const KNOWN: &str = "synddb_relayer_known_nonce";
const OPEN: &str = "synddb_relayer_open_messages";
const GAS: &str = "synddb_relayer_gas_used_total";
const SPENT: &str = "synddb_relayer_spent_wei_total";
const BALANCE: &str = "synddb_relayer_balance_wei";
const FAILING: &str = "synddb_relayer_failing";
const CHECKPOINTS: &str = "synddb_relayer_checkpoints_total";
const NONSENSE: &str = "synddb_relayer_nonsense_total";

/// The outcomes that are counted.
const OUTCOMES: [&str; 5] = ["completed", "failed", "rejected", "expired", "held"];

/// Says what is counted, and begins to count what may never happen.
pub(crate) fn describe() {
    describe_counter!(RELAYED, "Messages by what became of them here: settled, failed or held.");
    describe_gauge!(SETTLED, "Nothing changes this message any more, nor any before it.");
    describe_gauge!(KNOWN, "The highest message that a sequencer has signed, as far as it was found.");
    describe_gauge!(OPEN, "Messages that may still change.");
    describe_counter!(GAS, "Gas that transactions of this relayer have used.");
    describe_counter!(SPENT, "What was paid for that gas, in wei.");
    describe_gauge!(BALANCE, "What the account has left, in wei.");
    describe_gauge!(FAILING, "1 while sequencer or chain cannot be asked, or the account cannot pay.");
    describe_counter!(CHECKPOINTS, "Checkpoints that were brought.");
    describe_counter!(
        NONSENSE,
        "Answers of sequencer and validators that were dropped because they do not fit."
    );
    for outcome in OUTCOMES {
        counter!(RELAYED, "outcome" => outcome).increment(0);
    }
    for name in [GAS, SPENT, CHECKPOINTS, NONSENSE] {
        counter!(name).increment(0);
    }
    failing(false);
}

/// Something became of a message.
pub(crate) fn outcome(word: &'static str) {
    if OUTCOMES.contains(&word) {
        counter!(RELAYED, "outcome" => word).increment(1);
    }
}

/// How messages stand.
pub(crate) fn stand(known: u64, settled: u64, open: u64) {
    gauge!(KNOWN).set(rounded(known.into()));
    gauge!(SETTLED).set(rounded(settled.into()));
    gauge!(OPEN).set(rounded(open.into()));
}

/// A transaction was paid for.
pub(crate) fn spent(gas: u64, gas_price: u128) {
    counter!(GAS).increment(gas);
    let wei = u128::from(gas).saturating_mul(gas_price);
    counter!(SPENT).increment(u64::try_from(wei).unwrap_or(u64::MAX));
}

/// What the account has.
pub(crate) fn balance(wei: u128) {
    gauge!(BALANCE).set(rounded(wei));
}

/// Whether something is in the way of everything.
pub(crate) fn failing(is_failing: bool) {
    gauge!(FAILING).set(f64::from(u8::from(is_failing)));
}

/// A checkpoint was brought.
pub(crate) fn checkpoint() {
    counter!(CHECKPOINTS).increment(1);
}

/// An answer was dropped.
pub(crate) fn nonsense() {
    counter!(NONSENSE).increment(1);
}

/// Nonces are exact; of wei nobody reads the last digits of sixteen.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
const fn rounded(number: u128) -> f64 {
    number as f64
}
