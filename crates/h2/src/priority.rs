//! Priorities of responses (RFC 9218).

/// The priority of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Priority {
    /// 0 to 7: lower is sent first.
    pub(crate) urgency: u8,
    /// Whether a part of it is of use, so that it shares the connection with others.
    pub(crate) incremental: bool,
}

impl Default for Priority {
    fn default() -> Self {
        Self {
            urgency: 3,
            incremental: false,
        }
    }
}

impl Priority {
    /// Applies a Priority field value: a dictionary with `u` and `i` (RFC 9218, section 4).
    /// Members that are unknown or malformed change nothing, and of several the last counts (RFC
    /// 9651, section 4.2.2).
    pub(crate) fn apply(&mut self, value: &[u8]) {
        for member in tidegate_http::list(value) {
            let item = member.split(|&byte| byte == b';').next();
            match item.unwrap_or_default().trim_ascii_end() {
                [b'u', b'=', urgency @ b'0'..=b'7'] => self.urgency = urgency - b'0',
                b"i" | b"i=?1" => self.incremental = true,
                b"i=?0" => self.incremental = false,
                _ => {}
            }
        }
    }

    /// The priority of this field value alone.
    pub(crate) fn of(value: &[u8]) -> Self {
        let mut priority = Self::default();
        priority.apply(value);
        priority
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_read_leniently() {
        let cases: &[(&str, u8, bool)] = &[
            ("", 3, false),
            ("u=0", 0, false),
            ("u=7, i", 7, true),
            ("i", 3, true),
            ("i=?1", 3, true),
            ("i=?0", 3, false),
            ("i,u=1,i=?0", 1, false),
            ("u=1 , i ;x=y", 1, true),
            ("u=2;a=b;c, i", 2, true),
            ("u=8", 3, false),
            ("u=-1", 3, false),
            ("u=10", 3, false),
            ("u=1.0", 3, false),
            ("u", 3, false),
            ("U=1, I", 3, false),
            ("u=1, u=2", 2, false),
            ("u=1, u=9", 1, false),
            ("a=1, u=5, b=(u=1 i);u=2", 5, false),
            ("i=1", 3, false),
            ("\u{e4}, u=4", 4, false),
        ];
        for (value, urgency, incremental) in cases {
            let expected = Priority {
                urgency: *urgency,
                incremental: *incremental,
            };
            assert_eq!(Priority::of(value.as_bytes()), expected, "{value}");
        }
    }
}
