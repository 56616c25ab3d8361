//! An account that pays for transactions. It signs nothing else: neither the log nor what a bridge counts.

use alloy_consensus::{SignableTransaction as _, TxEip1559};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{B256, Bytes, Signature, TxKind, U256};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{PublicKey, SecretKey};
use synddb_protocol::id::Address;
use synddb_protocol::signing::SigningKey;

/// The key of an account. Its memory is overwritten when it goes.
pub struct Account {
    secret: SecretKey,
    address: Address,
}

/// Bytes that are not a key of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no secp256k1 secret key; write 64 digits of hex, as `openssl rand -hex 32` does")]
pub struct NoAccount;

/// A transaction before it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsigned {
    /// The chain, by its EIP-155 id.
    pub chain_id: u64,
    /// Its place among those of the account.
    pub nonce: u64,
    /// Who is called.
    pub to: Address,
    /// Native currency, in wei.
    pub value: u128,
    /// The call data.
    pub data: Vec<u8>,
    /// Most gas that it may use.
    pub gas_limit: u64,
    /// What is paid for gas.
    pub fees: Fees,
}

/// What a transaction pays for each unit of gas, in wei (EIP-1559).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fees {
    /// At most, with what is burnt.
    pub max_fee: u128,
    /// Of it at most to whoever makes the block.
    pub priority_fee: u128,
}

/// A signed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTransaction {
    /// What names it.
    pub hash: [u8; 32],
    /// What is sent.
    pub bytes: Vec<u8>,
}

impl Account {
    /// The account with these secret bytes.
    ///
    /// # Errors
    /// [`NoAccount`] for zero and for a number at or above the order of the curve.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, NoAccount> {
        let secret = SecretKey::from_secret_bytes(bytes).map_err(|_| NoAccount)?;
        let key = SigningKey::from_bytes(bytes).map_err(|_| NoAccount)?;
        debug_assert_eq!(PublicKey::from_secret_key(&secret).serialize(), key.verifying_key().to_bytes());
        Ok(Self { secret, address: key.id() })
    }

    /// Its address.
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Signs a transaction. One account makes one signature for one content (RFC 6979).
    pub fn sign(&self, unsigned: &Unsigned) -> SignedTransaction {
        let transaction = TxEip1559 {
            chain_id: unsigned.chain_id,
            nonce: unsigned.nonce,
            gas_limit: unsigned.gas_limit,
            max_fee_per_gas: unsigned.fees.max_fee,
            max_priority_fee_per_gas: unsigned.fees.priority_fee,
            to: TxKind::Call(crate::words::address(unsigned.to)),
            value: U256::from(unsigned.value),
            access_list: Default::default(),
            input: Bytes::copy_from_slice(&unsigned.data),
        };
        let signature = self.sign_hash(transaction.signature_hash());
        let signed = transaction.into_signed(signature);
        SignedTransaction { hash: signed.hash().0, bytes: signed.encoded_2718() }
    }

    fn sign_hash(&self, hash: B256) -> Signature {
        let message = secp256k1::Message::from_digest(hash.0);
        let signed = RecoverableSignature::sign_ecdsa_recoverable(message, &self.secret);
        let (parity, rs) = signed.serialize_compact();
        Signature::from_bytes_and_parity(&rs, parity == RecoveryId::One)
    }
}

impl std::str::FromStr for Account {
    type Err = NoAccount;

    /// Reads 32 bytes of hex, with or without `0x`.
    fn from_str(text: &str) -> Result<Self, NoAccount> {
        let digits = text.trim();
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), &mut bytes)
            .map_err(|_| NoAccount)?;
        Self::from_bytes(bytes)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.secret.non_secure_erase();
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({})", self.address)
    }
}

#[cfg(test)]
mod tests {
    use alloy_consensus::TxEnvelope;
    use alloy_eips::eip2718::Decodable2718 as _;

    use super::*;

    #[test]
    fn what_it_signs_is_its_own() {
        // The first account of every development chain.
        let account: Account =
            "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80".parse().unwrap();
        assert_eq!(account.address().to_string(), "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266");
        assert!(!format!("{account:?}").contains("ac0974"));
        let fees = Fees { max_fee: 9, priority_fee: 2 };
        let (to, data) = (Address::from_bytes([7; 20]), vec![1, 2, 3]);
        let unsigned = Unsigned { chain_id: 31337, nonce: 5, to, value: 4, data, gas_limit: 21_000, fees };
        let signed = account.sign(&unsigned);
        let read = TxEnvelope::decode_2718(&mut signed.bytes.as_slice()).unwrap();
        assert_eq!(read.tx_hash().0, signed.hash);
        assert_eq!("0x".parse::<Account>().err(), Some(NoAccount));
    }
}
