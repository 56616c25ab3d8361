//! The record format (file format, section 2.1): a payload as values.

use synddb_protocol::state::Value;

use super::varint;

/// Longest header of a record: SQLite's own bound, of the most columns a table can have.
const HEADER_BYTES_MAX: u64 = 98_307;

/// The fields of a record, in the order in which they are stored. `None` when the bytes are no record.
pub fn fields(payload: &[u8]) -> Option<Vec<Value<'_>>> {
    let mut fields = Vec::new();
    each_field(payload, |field| fields.push(field))?;
    Some(fields)
}

/// Shows the fields of a record, in the order in which they are stored, to `visit`. `None` when the bytes are no record, of which
/// some may have been shown.
pub fn each_field<'p>(payload: &'p [u8], mut visit: impl FnMut(Value<'p>)) -> Option<()> {
    let (header, mut at) = varint(payload)?;
    if header > HEADER_BYTES_MAX {
        return None;
    }
    let header = usize::try_from(header).ok()?;
    let types = payload.get(..header)?;
    let mut body = header;
    while at < header {
        let (serial, length) = varint(types.get(at..)?)?;
        at += length;
        let size = size_of(serial)?;
        let bytes = payload.get(body..body.checked_add(size)?)?;
        body += size;
        visit(value(serial, bytes)?);
    }
    Some(())
}

/// How many bytes a value of this serial type takes.
fn size_of(serial: u64) -> Option<usize> {
    match serial {
        0 | 8 | 9 => Some(0),
        1..=4 => usize::try_from(serial).ok(),
        5 => Some(6),
        6 | 7 => Some(8),
        10 | 11 => None,
        _ => usize::try_from((serial - 12) / 2).ok(),
    }
}

fn value(serial: u64, bytes: &[u8]) -> Option<Value<'_>> {
    Some(match serial {
        0 => Value::Null,
        1..=6 => Value::Integer(integer(bytes)),
        7 => {
            let real = f64::from_be_bytes(*bytes.first_chunk()?);
            // SQLite reads a NaN, which it never stores, as NULL.
            if real.is_nan() { Value::Null } else { Value::Real(real) }
        }
        8 => Value::Integer(0),
        9 => Value::Integer(1),
        _ if serial.is_multiple_of(2) => Value::Blob(bytes),
        _ => Value::Text(bytes),
    })
}

/// A big-endian two's-complement number of 1 to 8 bytes.
fn integer(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let start = if negative { -1 } else { 0 };
    bytes.iter().fold(start, |value: i64, byte| value << 8 | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_width_keep_their_sign() {
        assert_eq!(integer(&[0xff]), -1);
        assert_eq!(integer(&[0x7f]), 127);
        assert_eq!(integer(&[0x80, 0, 0]), -8_388_608);
        assert_eq!(integer(&i64::MIN.to_be_bytes()), i64::MIN);
    }

    #[test]
    fn a_record_is_read() {
        let record = [5, 0, 1, 15, 9, 0xfe, b'x'];
        assert_eq!(
            fields(&record).unwrap(),
            [Value::Null, Value::Integer(-2), Value::Text(b"x"), Value::Integer(1)]
        );
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for length in 0..4_u32 {
            for bits in 0..1_u32 << (8 * length).min(16) {
                let bytes = (bits.wrapping_mul(0x9e37_79b9) ^ bits).to_le_bytes();
                fields(&bytes[..length as usize]);
            }
        }
        assert_eq!(fields(&[2, 10]), None);
        assert_eq!(fields(&[0xff; 16]), None);
    }
}
