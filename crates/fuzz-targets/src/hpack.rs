//! Header blocks of a connection: what is given is within the limit, which decides nothing else,
//! and fields that are encoded are decoded to the same.

use tidegate_h2::hpack::{Decoder, Encoder, Error};
use tidegate_http::{FieldBlock, Status, is_token};

use crate::request::is_value;

/// What a field costs in a list (RFC 9113, section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// Lists are decoded to their end with the first, and as far as the second allows.
const LIMITS: [usize; 2] = [32 << 10, 200];

/// A list is refused that is larger than this and so many times the bytes of its block.
const LIST_BYTES_FREE: usize = 64 << 10;
const EXPANSION_MAX: usize = 64;

/// A name and a value.
type Field = (Vec<u8>, Vec<u8>);

/// `data` is header blocks, each behind a byte with its length; 255: what is left.
pub(crate) fn check(data: &[u8]) {
    let mut decoders = LIMITS.map(|_| Decoder::new());
    let mut ends = (Encoder::new(), Decoder::new());
    let mut rest = data;
    while let Some((len, behind)) = rest.split_first() {
        let len = match *len {
            u8::MAX => behind.len(),
            len => behind.len().min(usize::from(len)),
        };
        let (block, behind) = behind.split_at(len);
        rest = behind;
        let [large, small] = &mut decoders;
        let whole = decode(large, block, LIMITS[0]);
        let part = decode(small, block, LIMITS[1]);
        match (whole, part) {
            (Ok((size, fields)), Ok((same_size, first))) => {
                assert_eq!(size, same_size);
                assert!(fields.starts_with(&first));
                check_literals(&fields);
                check_encoder(&mut ends, &fields, block);
            }
            (whole, part) => {
                assert_eq!(whole.map(drop), part.map(drop));
                return;
            }
        }
    }
}

/// The size of the list, and the fields that are given of it.
fn decode(decoder: &mut Decoder, block: &[u8], limit: usize) -> Result<(usize, Vec<Field>), Error> {
    let mut fields = Vec::new();
    let mut scratch = b"of the block before".to_vec();
    let size = decoder.decode(block, limit, &mut scratch, |name, value| {
        fields.push((name.to_vec(), value.to_vec()));
    })?;
    let given: usize = fields.iter().map(size_of_field).sum();
    assert!(given <= limit);
    assert!(given == size || size > limit);
    assert!(size <= LIST_BYTES_FREE + EXPANSION_MAX * block.len());
    Ok((size, fields))
}

fn size_of_field((name, value): &Field) -> usize {
    name.len() + value.len() + FIELD_OVERHEAD
}

/// The fields as literals that are not indexed are the same.
fn check_literals(fields: &[Field]) {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        push_string(name, &mut block);
        push_string(value, &mut block);
    }
    let size = fields.iter().map(size_of_field).sum();
    let decoded = decode(&mut Decoder::new(), &block, LIMITS[0]);
    assert_eq!(decoded, Ok((size, fields.to_vec())));
}

/// RFC 7541, sections 5.1 and 5.2.
fn push_string(text: &[u8], out: &mut Vec<u8>) {
    if text.len() < 127 {
        out.push(text.len() as u8);
    } else {
        out.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            out.push((rest % 128) as u8 | 0x80);
            rest /= 128;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(text);
}

/// A response with these fields is decoded to the same, in lower case, whatever table the peer
/// allows, and whatever was sent before.
fn check_encoder((encoder, decoder): &mut (Encoder, Decoder), fields: &[Field], block: &[u8]) {
    if let [size, ..] = block
        && size % 3 == 0
    {
        encoder.set_table_size(u32::from(*size) * 32);
    }
    let mut lines = FieldBlock::new();
    let mut expected = vec![(b":status".to_vec(), b"200".to_vec())];
    for (name, value) in fields {
        let name = str::from_utf8(name).unwrap_or_default();
        let is_name = !name.is_empty() && name.bytes().all(is_token);
        if is_name && is_value(value) && !value.contains(&b'\t') && value.trim_ascii() == value {
            lines.push(name, value);
            expected.push((name.to_ascii_lowercase().into_bytes(), value.clone()));
        }
    }
    let mut out = Vec::new();
    encoder.status(Status::OK, &mut out);
    encoder.fields(lines.lines(), &mut out);
    let fields = decode(decoder, &out, LIMITS[0] * 2).map(|(_, fields)| fields);
    assert_eq!(fields, Ok(expected));
}
