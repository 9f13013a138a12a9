//! Values with a notation of their own: durations, sizes and core lists.
//!
//! Each has one parser, used for the file and for the command line alike, and
//! one writer whose output parses back to the same value.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};
use serde::ser::{Error as _, Serialize, Serializer};

use crate::ValueError;

/// The highest core number that can be named; the kernel's own limit is 8192 cores.
const CORE_MAX: usize = 8191;

const MILLISECONDS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
/// The units of durations that may be days.
const LONG_MILLISECONDS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
const BYTES: &[(&str, u64)] = &[("", 1), ("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30)];

/// The cores to run on, one executor pinned on each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cores {
    /// Every core the process may use.
    #[default]
    Auto,
    /// That many of the cores the process may use; at least 1.
    Count(usize),
    /// These cores by number; at least one, none twice.
    List(Vec<usize>),
}

/// A duration as typed: "500ms", "75s", "2m", "1h".
#[derive(Clone, Copy, Debug)]
pub(crate) struct Period(pub(crate) Duration);

/// A duration as typed, or "off".
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeriodOrOff(pub(crate) Option<Duration>);

/// A duration as typed, which may be days: "1h", "30d".
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongPeriod(pub(crate) Duration);

/// A duration as typed, which may be days, or "off".
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongPeriodOrOff(pub(crate) Option<Duration>);

/// A number of bytes as typed: 16384, "16k", "64m", "1g".
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) u64);

/// A size as typed, or "off".
#[derive(Clone, Copy, Debug)]
pub(crate) struct SizeOrOff(pub(crate) Option<u64>);

/// A size as typed, or "auto".
#[derive(Clone, Copy, Debug)]
pub(crate) struct SizeOrAuto(pub(crate) Option<u64>);

/// `true` or `false` as typed, or a list of strings.
#[derive(Clone, Debug)]
pub(crate) enum BoolOrList {
    Bool(bool),
    List(Vec<String>),
}

/// A string as typed, or a list of strings.
#[derive(Clone, Debug)]
pub(crate) enum TextOrList {
    Text(String),
    List(Vec<String>),
}

/// A number as typed, its range not yet checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fraction(pub(crate) f64);

/// A whole number as typed, its range not yet checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count(pub(crate) i64);

impl FromStr for Cores {
    type Err = ValueError;

    /// Reads "auto", a count such as "4", or a list such as "0-15,32".
    /// A list of the one core 4 is "4-4".
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        if let Some(count) = whole(text) {
            return cores_count(count);
        }
        let mut cores = Vec::new();
        for part in text.split(',') {
            cores.extend(core_range(part.trim())?);
        }
        refuse_duplicates(&cores)?;
        Ok(Self::List(cores))
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => write!(f, "{count}"),
            Self::List(cores) => f.write_str(&core_list(cores)),
        }
    }
}

impl Serialize for Cores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => count.serialize(serializer),
            other => serializer.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for Cores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Typed {
            expecting: "\"auto\", a count or a list such as \"0-15,32\"",
            text: Some(str::parse),
            integer: Some(|count| match u64::try_from(count) {
                Ok(count) => cores_count(count),
                Err(_) => Err(ValueError::new("a count of cores is 1 or more")),
            }),
        })
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Typed {
            expecting: "a duration with its unit, such as \"75s\"",
            text: Some(|text| parse_duration(text).map(Self)),
            integer: None,
        })
    }
}

impl<'de> Deserialize<'de> for PeriodOrOff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Typed {
            expecting: "\"off\" or a duration with its unit, such as \"75s\"",
            text: Some(|text| parse_duration_or_off(text).map(Self)),
            integer: None,
        })
    }
}

impl<'de> Deserialize<'de> for LongPeriod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Typed {
            expecting: "a duration with its unit, such as \"1h\" or \"30d\"",
            text: Some(|text| parse_long_duration(text).map(Self)),
            integer: None,
        })
    }
}

impl<'de> Deserialize<'de> for LongPeriodOrOff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Typed {
            expecting: "\"off\" or a duration with its unit, such as \"1h\" or \"30d\"",
            text: Some(|text| match text {
                "off" => Ok(Self(None)),
                text => parse_long_duration(text).map(|time| Self(Some(time))),
            }),
            integer: None,
        })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Typed {
            expecting: "a size such as \"16k\"",
            text: Some(|text| parse_size(text).map(Self)),
            integer: Some(|bytes| match u64::try_from(bytes) {
                Ok(bytes) => Ok(Self(bytes)),
                Err(_) => Err(ValueError::new(format!("{bytes} is not a size"))),
            }),
        })
    }
}

impl<'de> Deserialize<'de> for SizeOrOff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Typed {
            expecting: "\"off\" or a size such as \"16m\"",
            text: Some(|text| parse_size_or_off(text).map(Self)),
            integer: Some(|bytes| match u64::try_from(bytes) {
                Ok(bytes) => Ok(Self(Some(bytes))),
                Err(_) => Err(ValueError::new(format!("{bytes} is not a size"))),
            }),
        })
    }
}

impl<'de> Deserialize<'de> for SizeOrAuto {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Typed {
            expecting: "\"auto\" or a size such as \"2g\"",
            text: Some(|text| match text {
                "auto" => Ok(Self(None)),
                text => parse_size(text).map(|bytes| Self(Some(bytes))),
            }),
            integer: Some(|bytes| match u64::try_from(bytes) {
                Ok(bytes) => Ok(Self(Some(bytes))),
                Err(_) => Err(ValueError::new(format!("{bytes} is not a size"))),
            }),
        })
    }
}

impl<'de> Deserialize<'de> for BoolOrList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = BoolOrList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a list of names such as [\".treeinfo\"]")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<BoolOrList, E> {
                Ok(BoolOrList::Bool(value))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<BoolOrList, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(BoolOrList::List(texts))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for TextOrList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = TextOrList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a list of names such as [\"v\"]")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<TextOrList, E> {
                Ok(TextOrList::Text(text.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<TextOrList, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(TextOrList::List(texts))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Fraction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = Fraction;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number such as 0.01")
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Fraction, E> {
                Ok(Fraction(number))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Fraction, E> {
                Ok(Fraction(number as f64))
            }
        }

        deserializer.deserialize_any(Number)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Typed {
            expecting: "a whole number",
            text: None,
            integer: Some(|count| Ok(Self(count))),
        })
    }
}

/// Reads a duration: digits and one of the units ms, s, m, h.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let milliseconds = scaled(text, MILLISECONDS).ok_or_else(|| {
        ValueError::new(format!(
            "`{text}` is not a duration: write digits and one of the units ms, s, m, h, such as \"75s\""
        ))
    })?;
    Ok(Duration::from_millis(milliseconds))
}

/// Reads a duration that may be days: digits and one of the units ms, s, m, h, d.
fn parse_long_duration(text: &str) -> Result<Duration, ValueError> {
    let milliseconds = scaled(text, LONG_MILLISECONDS).ok_or_else(|| {
        ValueError::new(format!(
            "`{text}` is not a duration: write digits and one of the units ms, s, m, h, d, such as \"1h\""
        ))
    })?;
    Ok(Duration::from_millis(milliseconds))
}

fn parse_duration_or_off(text: &str) -> Result<Option<Duration>, ValueError> {
    match text {
        "off" => Ok(None),
        duration => parse_duration(duration).map(Some),
    }
}

/// Reads a size: digits, and k, m or g for powers of 1024.
pub(crate) fn parse_size(text: &str) -> Result<u64, ValueError> {
    scaled(text, BYTES).ok_or_else(|| {
        ValueError::new(format!(
            "`{text}` is not a size: write digits and, if wanted, one of the units k, m, g, such as \"16k\""
        ))
    })
}

fn parse_size_or_off(text: &str) -> Result<Option<u64>, ValueError> {
    match text {
        "off" => Ok(None),
        size => parse_size(size).map(Some),
    }
}

/// Writes a duration of whole milliseconds in the largest of hours, seconds and milliseconds that
/// is exact.
pub(crate) fn format_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    match milliseconds {
        0 => "0s".to_owned(),
        n if n.is_multiple_of(3_600_000) => format!("{}h", n / 3_600_000),
        n if n.is_multiple_of(1_000) => format!("{}s", n / 1_000),
        n => format!("{n}ms"),
    }
}

/// Writes a duration as [`format_duration`] does, or in days where that is exact.
pub(crate) fn format_long_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    match milliseconds {
        n if n > 0 && n.is_multiple_of(86_400_000) => format!("{}d", n / 86_400_000),
        _ => format_duration(duration),
    }
}

/// Writes a size in the largest unit that is exact.
pub(crate) fn format_size(bytes: u64) -> String {
    let even = BYTES
        .iter()
        .rev()
        .find(|(_, unit)| bytes.is_multiple_of(*unit));
    match even {
        Some((suffix, unit)) if bytes > 0 => format!("{}{suffix}", bytes / unit),
        _ => bytes.to_string(),
    }
}

/// For `serialize_with` on fields that hold a duration.
pub(crate) fn duration<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format_duration(*value))
}

/// For `serialize_with` on fields that hold a duration; `None` is "off".
#[expect(clippy::ref_option, reason = "serde passes the field by reference")]
pub(crate) fn duration_or_off<S: Serializer>(
    value: &Option<Duration>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(time) => duration(time, to),
        None => to.serialize_str("off"),
    }
}

/// For `serialize_with` on fields that hold a number of bytes.
pub(crate) fn size<N, S>(value: &N, to: S) -> Result<S::Ok, S::Error>
where
    N: Copy + TryInto<u64, Error: fmt::Display>,
    S: Serializer,
{
    let bytes = (*value).try_into().map_err(S::Error::custom)?;
    to.serialize_str(&format_size(bytes))
}

/// For `serialize_with` on fields that hold a number of bytes; `None` is "off".
#[expect(clippy::ref_option, reason = "serde passes the field by reference")]
pub(crate) fn size_or_off<S: Serializer>(value: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(bytes) => size(bytes, to),
        None => to.serialize_str("off"),
    }
}

/// As [`size_or_off`]; `None` is "auto".
#[expect(clippy::ref_option, reason = "serde passes the field by reference")]
pub(crate) fn size_or_auto<S: Serializer>(value: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(bytes) => size(bytes, to),
        None => to.serialize_str("auto"),
    }
}

type FromText<T> = fn(&str) -> Result<T, ValueError>;
type FromInteger<T> = fn(i64) -> Result<T, ValueError>;

/// Visits a value that may be a string, an integer, or either.
struct Typed<T> {
    expecting: &'static str,
    text: Option<FromText<T>>,
    integer: Option<FromInteger<T>>,
}

impl<T> Visitor<'_> for Typed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        match self.text {
            Some(parse) => parse(text).map_err(E::custom),
            None => Err(E::invalid_type(Unexpected::Str(text), &self)),
        }
    }

    fn visit_i64<E: de::Error>(self, integer: i64) -> Result<T, E> {
        match self.integer {
            Some(check) => check(integer).map_err(E::custom),
            None => Err(E::invalid_type(Unexpected::Signed(integer), &self)),
        }
    }
}

/// The number of a text of digits only, without a sign.
fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Digits times the one of `units` that follows them. `None` also on overflow.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let (_, unit) = units.iter().find(|(name, _)| *name == suffix)?;
    whole(number)?.checked_mul(*unit)
}

fn cores_count(count: u64) -> Result<Cores, ValueError> {
    match usize::try_from(count) {
        Ok(count @ 1..=CORE_MAX) => Ok(Cores::Count(count)),
        _ => Err(ValueError::new(format!(
            "{count} is outside 1 to {CORE_MAX}: each core runs one executor, and at least one must run"
        ))),
    }
}

/// One part of a core list: "7" or "0-15", both ends included.
fn core_range(part: &str) -> Result<std::ops::RangeInclusive<usize>, ValueError> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last) = (core(first, part)?, core(last, part)?);
    if first > last {
        return Err(ValueError::new(format!(
            "the range {part} is inverted: write {last}-{first}"
        )));
    }
    Ok(first..=last)
}

fn core(text: &str, part: &str) -> Result<usize, ValueError> {
    let number = whole(text).ok_or_else(|| {
        ValueError::new(format!(
            "`{part}` is not a core or a range of cores: write \"auto\", a count or a list such as \"0-15,32\""
        ))
    })?;
    match usize::try_from(number) {
        Ok(core @ 0..=CORE_MAX) => Ok(core),
        _ => Err(ValueError::new(format!(
            "core {number} is above {CORE_MAX}, the highest that Linux knows"
        ))),
    }
}

fn refuse_duplicates(cores: &[usize]) -> Result<(), ValueError> {
    let mut sorted = cores.to_vec();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(ValueError::new(format!("core {} is named twice", pair[0]))),
        None => Ok(()),
    }
}

/// Writes ascending runs as ranges. A single core is written as a range, because a single number is
/// a count.
fn core_list(cores: &[usize]) -> String {
    if let [core] = cores {
        return format!("{core}-{core}");
    }
    let runs = cores.chunk_by(|left, right| left + 1 == *right);
    let parts: Vec<String> = runs
        .map(|run| match run {
            [first, .., last] => format!("{first}-{last}"),
            lone => lone.iter().map(usize::to_string).collect(),
        })
        .collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        let rows = [
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("75s", Some(75_000)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("", None),
            ("75", None),
            ("s", None),
            ("-1s", None),
            ("+1s", None),
            ("1.5s", None),
            ("1 s", None),
            ("1S", None),
            ("1d", None),
            ("18446744073709551615h", None),
            ("99999999999999999999s", None),
        ];
        for (text, milliseconds) in rows {
            let parsed = parse_duration(text).ok();
            assert_eq!(parsed, milliseconds.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn long_durations() {
        let rows = [
            ("0s", Some(0), "0s"),
            ("1d", Some(86_400_000), "1d"),
            ("48h", Some(172_800_000), "2d"),
            ("25h", Some(90_000_000), "25h"),
            ("365d", Some(31_536_000_000), "365d"),
            ("1w", None, ""),
            ("1D", None, ""),
            ("d", None, ""),
        ];
        for (text, milliseconds, written) in rows {
            let parsed = parse_long_duration(text).ok();
            let expected = milliseconds.map(Duration::from_millis);
            assert_eq!(parsed, expected, "{text:?}");
            let again = parsed.map(format_long_duration).unwrap_or_default();
            assert_eq!(again, written, "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        let rows = [
            ("0", Some(0)),
            ("512", Some(512)),
            ("16k", Some(16 << 10)),
            ("64m", Some(64 << 20)),
            ("1g", Some(1 << 30)),
            ("", None),
            ("k", None),
            ("16K", None),
            ("16kb", None),
            ("-1", None),
            ("1.5m", None),
            ("17179869184g", None),
        ];
        for (text, bytes) in rows {
            assert_eq!(parse_size(text).ok(), bytes, "{text:?}");
        }
    }

    #[test]
    fn cores() {
        let rows = [
            ("auto", Ok(Cores::Auto)),
            ("4", Ok(Cores::Count(4))),
            ("4-4", Ok(Cores::List(vec![4]))),
            ("0-3,8, 6-7", Ok(Cores::List(vec![0, 1, 2, 3, 8, 6, 7]))),
            ("", Err("`` is not a core")),
            ("0", Err("0 is outside 1 to 8191")),
            ("9999", Err("9999 is outside 1 to 8191")),
            ("all", Err("`all` is not a core")),
            ("Auto", Err("`Auto` is not a core")),
            ("-1", Err("`-1` is not a core")),
            ("0-", Err("`0-` is not a core")),
            ("0,,1", Err("`` is not a core")),
            ("0-1-2", Err("`0-1-2` is not a core")),
            ("3-1", Err("the range 3-1 is inverted: write 1-3")),
            ("0-3,2", Err("core 2 is named twice")),
            ("0-8192", Err("core 8192 is above 8191")),
            (
                "0,99999999999999999999",
                Err("`99999999999999999999` is not a core"),
            ),
        ];
        for (text, expected) in rows {
            match (text.parse::<Cores>(), expected) {
                (Ok(parsed), Ok(expected)) => assert_eq!(parsed, expected, "{text:?}"),
                (Err(error), Err(start)) => {
                    assert!(error.to_string().starts_with(start), "{text:?}: {error}");
                }
                (parsed, expected) => panic!("{text:?}: {parsed:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn written_in_even_units() {
        let rows = [
            (0, "0s"),
            (60_000, "60s"),
            (7_200_000, "2h"),
            (1_500, "1500ms"),
        ];
        for (milliseconds, text) in rows {
            assert_eq!(format_duration(Duration::from_millis(milliseconds)), text);
        }
        let rows = [
            (0, "0"),
            (1_000, "1000"),
            (16 << 10, "16k"),
            (1 << 30, "1g"),
        ];
        for (bytes, text) in rows {
            assert_eq!(format_size(bytes), text);
        }
        assert_eq!(Cores::List(vec![7]).to_string(), "7-7");
        assert_eq!(Cores::List(vec![0, 1, 2, 9, 4]).to_string(), "0-2,9,4");
    }

    proptest! {
        #[test]
        fn durations_come_back(milliseconds in 0..u64::MAX) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn sizes_come_back(bytes in any::<u64>(), shift in 0..64_u32) {
            let bytes = bytes >> shift << shift;
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn core_lists_come_back(cores in proptest::sample::subsequence((0..64).collect::<Vec<_>>(), 1..64).prop_shuffle()) {
            let cores = Cores::List(cores);
            prop_assert_eq!(cores.to_string().parse(), Ok(cores));
        }

        #[test]
        fn no_text_panics(text in "[0-9kmghs,auto -]{0,12}|\\PC{0,12}") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
            let _ = text.parse::<Cores>();
        }
    }
}
