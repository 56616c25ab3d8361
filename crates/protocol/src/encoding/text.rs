//! Bytes as text: lower-case hex, with `0x` in Display, FromStr and JSON, without it in store keys.

/// Why a text does not name the thing that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {what}: expected {expected}. text=`{text}`")]
pub struct ParseError {
    what: &'static str,
    expected: String,
    text: String,
}

impl ParseError {
    /// Names what was expected; a long text is cut so that an error stays readable.
    pub(crate) fn new(what: &'static str, expected: impl Into<String>, text: &str) -> Self {
        Self { what, expected: expected.into(), text: text.chars().take(100).collect() }
    }
}

/// Reads `N` bytes from lower-case hex behind `prefix`, which may be empty.
pub(crate) fn bytes_from_hex<const N: usize>(
    what: &'static str,
    prefix: &str,
    text: &str,
) -> Result<[u8; N], ParseError> {
    let refuse = || ParseError::new(what, format!("{prefix}{{{} lower-case hex digits}}", 2 * N), text);
    let digits = text.strip_prefix(prefix).ok_or_else(refuse)?;
    if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(refuse());
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| refuse())?;
    Ok(bytes)
}

/// Implements Display, Debug, FromStr, the store key text and serde for a newtype of bytes.
macro_rules! impl_hex_text {
    ($name:ident, $length:literal, $what:literal) => {
        impl $name {
            /// Lower-case hex without `0x`, as store keys and URL paths have it.
            pub fn to_key(&self) -> String {
                hex::encode(self.0)
            }

            /// Reads what [`Self::to_key`] wrote.
            ///
            /// # Errors
            /// Anything but the exact number of lower-case hex digits.
            pub fn from_key(text: &str) -> Result<Self, ParseError> {
                $crate::encoding::text::bytes_from_hex::<$length>($what, "", text).map(Self)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "0x{}", hex::encode(self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "(0x{})"), hex::encode(self.0))
            }
        }

        impl std::str::FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                $crate::encoding::text::bytes_from_hex::<$length>($what, "0x", text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        #[cfg(feature = "openapi")]
        crate::openapi::impl_hex!($name, $length, $what);

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use impl_hex_text;
