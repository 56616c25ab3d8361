//! The refusal: a validator's signed word that a message violates a rule, with the rows that show it, and later how that was resolved.
//!
//! It binds nobody: it tells whoever waits for an endorsement why none comes, and who said so.

use crate::encoding::DecodeError;
use crate::encoding::cbor::{MapKey, Reader, Writer, check_limit};
use crate::id::{CommitNumber, Epoch, IncarnationCounter, KeyId, Sequence, StreamId, Timestamp};
use crate::limits::{REFUSAL_BYTES_MAX, REFUSAL_ROWS_MAX, REFUSAL_TEXT_MAX};
use crate::signing::{Envelope, Header, Kind, RegisteredSigner, SignatureError, VerifyingKey};

/// Why a rule does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalWhy {
    /// It names rows that must not be.
    Rows,
    /// It cannot be evaluated.
    Unevaluated,
    /// It took longer than it may.
    TookTooLong,
    /// A message table changed in another way than it may.
    Messages,
    /// An incarnation began that nobody has admitted.
    Incarnation,
}

/// How a refusal was resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolvedBy {
    /// Whoever runs the validator said so.
    Operator,
    /// The rule was removed.
    RuleRemoved,
    /// The configuration admits the incarnation.
    Admission,
}

/// That a refusal was resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// When, by the clock of whoever runs the validator.
    pub at: Timestamp,
    /// How.
    pub by: ResolvedBy,
    /// Why, in somebody's words.
    pub because: String,
}

/// What a validator refuses to endorse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The stream.
    pub stream: StreamId,
    /// The epoch of the message.
    pub epoch: Epoch,
    /// The message: no checkpoint at or behind it is endorsed.
    pub sequence: Sequence,
    /// The time of the message: log time.
    pub timestamp: Timestamp,
    /// The rule.
    pub rule: String,
    /// The incarnation.
    pub incarnation: IncarnationCounter,
    /// The commit; `None` of a snapshot.
    pub commit: Option<CommitNumber>,
    /// Why.
    pub why: RefusalWhy,
    /// The same in words.
    pub detail: String,
    /// The rows that show it, as JSON.
    pub rows: String,
    /// How many violations of the rule this one stands for that came after it.
    pub further: u64,
    /// How it was resolved, if it was.
    pub resolution: Option<Resolution>,
}

const fn invalid(what: &'static str, why: &'static str) -> DecodeError {
    DecodeError::Invalid { what, why }
}

impl RefusalWhy {
    const ALL: [Self; 5] =
        [Self::Rows, Self::Unevaluated, Self::TookTooLong, Self::Messages, Self::Incarnation];

    fn write(self, writer: &mut Writer) {
        writer.uint(Self::ALL.iter().zip(0u64..).find(|(why, _)| **why == self).map_or(0, |(_, code)| code));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let code = usize::try_from(reader.uint("why")?).unwrap_or(usize::MAX);
        Self::ALL.get(code).copied().ok_or(invalid("why", "it is 0 to 4"))
    }
}

impl ResolvedBy {
    const ALL: [Self; 3] = [Self::Operator, Self::RuleRemoved, Self::Admission];

    fn write(self, writer: &mut Writer) {
        writer.uint(Self::ALL.iter().zip(0u64..).find(|(by, _)| **by == self).map_or(0, |(_, code)| code));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let code = usize::try_from(reader.uint("resolved by")?).unwrap_or(usize::MAX);
        Self::ALL.get(code).copied().ok_or(invalid("resolved by", "it is 0 to 2"))
    }
}

impl Refusal {
    /// Signs it.
    ///
    /// # Errors
    /// [`DecodeError`] for one over a bound, which no reader would take.
    pub fn sign(self, signer: &RegisteredSigner) -> Result<SignedRefusal, DecodeError> {
        self.check()?;
        let (stream, epoch, sequence) = (self.stream, self.epoch, Some(self.sequence));
        let header = Header { stream, epoch, sequence, message: None };
        let envelope = Envelope::sign(Kind::Refusal, header, self.payload(), signer.key());
        Ok(SignedRefusal { refusal: self, envelope })
    }

    fn check(&self) -> Result<(), DecodeError> {
        check_limit("name of a rule", self.rule.len(), REFUSAL_TEXT_MAX)?;
        check_limit("detail of a refusal", self.detail.len(), REFUSAL_TEXT_MAX)?;
        check_limit("rows of a refusal", self.rows.len(), REFUSAL_ROWS_MAX)?;
        if let Some(resolution) = &self.resolution {
            check_limit("reason of a resolution", resolution.because.len(), REFUSAL_TEXT_MAX)?;
        }
        Ok(())
    }

    fn payload(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.map(7 + usize::from(self.commit.is_some()) + usize::from(self.resolution.is_some()));
        writer.key(MapKey::Int(1));
        writer.text(&self.rule);
        writer.key(MapKey::Int(2));
        writer.uint(self.timestamp);
        writer.key(MapKey::Int(3));
        writer.uint(self.incarnation);
        if let Some(commit) = self.commit {
            writer.key(MapKey::Int(4));
            writer.uint(commit);
        }
        writer.key(MapKey::Int(5));
        self.why.write(&mut writer);
        writer.key(MapKey::Int(6));
        writer.text(&self.detail);
        writer.key(MapKey::Int(7));
        writer.text(&self.rows);
        writer.key(MapKey::Int(8));
        writer.uint(self.further);
        if let Some(Resolution { at, by, because }) = &self.resolution {
            writer.key(MapKey::Int(9));
            writer.array(3);
            writer.uint(*at);
            by.write(&mut writer);
            writer.text(because);
        }
        writer.into_bytes()
    }

    fn from_payload(header: &Header, payload: &[u8]) -> Result<Self, DecodeError> {
        let what = Kind::Refusal.what();
        let sequence = header.sequence.ok_or(invalid(what, "its header has a sequence"))?;
        let reader = &mut Reader::new(payload);
        let mut fields = reader.fields(what, 9)?;
        let text = |what: &'static str, limit| {
            move |reader: &mut Reader<'_>| Ok(reader.text(what, limit)?.to_owned())
        };
        let rule = fields.required(reader, MapKey::Int(1), text("name of a rule", REFUSAL_TEXT_MAX))?;
        let timestamp = fields.required(reader, MapKey::Int(2), |reader| reader.number("timestamp"))?;
        let incarnation = fields.required(reader, MapKey::Int(3), |reader| reader.number("incarnation"))?;
        let commit = fields.optional(reader, MapKey::Int(4), |reader| reader.number("commit"))?;
        let why = fields.required(reader, MapKey::Int(5), RefusalWhy::read)?;
        let detail =
            fields.required(reader, MapKey::Int(6), text("detail of a refusal", REFUSAL_TEXT_MAX))?;
        let rows = fields.required(reader, MapKey::Int(7), text("rows of a refusal", REFUSAL_ROWS_MAX))?;
        let further = fields.required(reader, MapKey::Int(8), |reader| reader.uint("further"))?;
        let resolution = fields.optional(reader, MapKey::Int(9), |reader| {
            reader.array_exact("resolution", 3)?;
            let (at, by) = (reader.number("resolved at")?, ResolvedBy::read(reader)?);
            let because = reader.text("reason of a resolution", REFUSAL_TEXT_MAX)?.to_owned();
            Ok(Resolution { at, by, because })
        })?;
        fields.end(reader)?;
        reader.end(what)?;
        let (stream, epoch) = (header.stream, header.epoch);
        Ok(Self {
            stream,
            epoch,
            sequence,
            timestamp,
            rule,
            incarnation,
            commit,
            why,
            detail,
            rows,
            further,
            resolution,
        })
    }
}

/// A signed refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRefusal {
    refusal: Refusal,
    envelope: Envelope,
}

impl SignedRefusal {
    /// Reads one. Its signature is not checked by that.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not a canonical COSE_Sign1 of a refusal.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let what = Kind::Refusal.what();
        check_limit(what, bytes.len(), REFUSAL_BYTES_MAX)?;
        let mut reader = Reader::new(bytes);
        let envelope = Envelope::read(Kind::Refusal, &mut reader, REFUSAL_BYTES_MAX)?;
        reader.end(what)?;
        let refusal = Refusal::from_payload(envelope.header(), envelope.payload())?;
        Ok(Self { refusal, envelope })
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.envelope.encode()
    }

    /// What it says.
    pub const fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// The name of the key that signed it.
    pub const fn key(&self) -> KeyId {
        self.envelope.key()
    }

    /// The public key of the validator.
    ///
    /// # Errors
    /// [`SignatureError::BadSignature`] when no key with the named address made the signature.
    pub fn recover(&self) -> Result<VerifyingKey, SignatureError> {
        self.envelope.recover()
    }
}
