//! A number as wide as a word of the EVM, in which contracts count money.

use crate::encoding::ParseError;

/// A whole number below 2^256: units of a currency or a token.
///
/// As text it is decimal, without sign and without leading zeros. It does no arithmetic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uint256([u8; 32]);

impl Uint256 {
    /// Nothing.
    pub const ZERO: Self = Self([0; 32]);

    /// The largest: 2^256 - 1.
    pub const MAX: Self = Self([0xff; 32]);

    /// The number with these bytes, the highest first: all 32 bytes are some number.
    pub const fn from_be_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes, the highest first.
    pub const fn as_be_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<u64> for Uint256 {
    fn from(value: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[24..].copy_from_slice(&value.to_be_bytes());
        Self(bytes)
    }
}

impl std::fmt::Display for Uint256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest = self.0;
        let mut digits = String::new();
        while digits.is_empty() || rest != [0; 32] {
            // Long division by ten: what is left over is the next digit from the right.
            let mut over = 0;
            for byte in &mut rest {
                let value = u16::from_be_bytes([over, *byte]);
                // The quotient is below 256, because what was left over is below ten.
                [_, *byte] = (value / 10).to_be_bytes();
                [_, over] = (value % 10).to_be_bytes();
            }
            digits.insert(0, char::from(b'0' + over));
        }
        f.pad_integral(true, "", &digits)
    }
}

impl std::fmt::Debug for Uint256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Uint256({self})")
    }
}

impl std::str::FromStr for Uint256 {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse =
            || ParseError::new("number", "a decimal number below 2^256, without leading zeros", text);
        let has_form = text.bytes().all(|digit| digit.is_ascii_digit());
        if !has_form || text.is_empty() || (text.len() > 1 && text.starts_with('0')) {
            return Err(refuse());
        }
        let mut bytes = [0; 32];
        for digit in text.bytes() {
            let mut carry = u16::from(digit - b'0');
            for byte in bytes.iter_mut().rev() {
                let [high, low] = (u16::from(*byte) * 10 + carry).to_be_bytes();
                *byte = low;
                carry = high.into();
            }
            if carry != 0 {
                return Err(refuse());
            }
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decimal_and_has_one_form() {
        let max = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
        for (number, text) in [
            (Uint256::ZERO, "0"),
            (Uint256::from(1_000_000), "1000000"),
            (Uint256::from(u64::MAX), "18446744073709551615"),
            (Uint256::MAX, max),
        ] {
            assert_eq!(number.to_string(), text);
            assert_eq!(text.parse::<Uint256>().unwrap(), number);
        }
        let above = max.replace("39935", "39936");
        for other in ["", "00", "01", "+1", "-1", " 1", "1 ", "0x1", "1e3", "\u{661}", &above, &max.repeat(2)]
        {
            assert!(other.parse::<Uint256>().is_err(), "{other}");
        }
    }

    #[test]
    fn order_is_that_of_numbers() {
        let [one, many] = ["9", "18446744073709551616"].map(|text| text.parse::<Uint256>().unwrap());
        assert!(one < many && Uint256::from(u64::MAX) < many && many < Uint256::MAX);
        assert_eq!(Uint256::from_be_bytes(*many.as_be_bytes()), many);
        let mut bytes = [0; 32];
        bytes[23] = 1;
        assert_eq!(many.as_be_bytes(), &bytes);
    }
}
