//! Patterns of paths, against a matcher that knows half of their syntax and is slow.

use tidegate_config::Glob;

/// The slow matcher takes the product of both lengths.
const COMPARED_BYTES_MAX: usize = 200;

/// `data` is a pattern, a line feed, and a path.
pub(crate) fn check(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let pattern = parts.next().and_then(|text| str::from_utf8(text).ok());
    let (Some(pattern), Some(path)) = (pattern, parts.next()) else {
        return;
    };
    let Ok(glob) = Glob::new(pattern, false) else {
        return;
    };
    assert_eq!(glob.as_str(), pattern);
    assert_eq!(glob.to_string().parse(), Ok(glob.clone()));
    let is_match = glob.is_match(path);
    assert_eq!(
        is_match,
        glob.regex().is_match(path),
        "the prefix decides nothing"
    );
    check_captures(&glob, path);
    // A set that leaves letters out leaves out more of them then.
    if is_match
        && !pattern.contains("[!")
        && let Ok(folded) = Glob::new(pattern, true)
    {
        assert!(folded.is_match(path));
    }
    if pattern.len().max(path.len()) <= COMPARED_BYTES_MAX
        && let Some(tokens) = tokens(pattern)
    {
        assert_eq!(matches(&tokens, path), is_match, "{tokens:?}");
    }
}

/// Each is a part of the path.
fn check_captures(glob: &Glob, path: &[u8]) {
    let Some(captures) = glob.regex().captures(path) else {
        return;
    };
    assert_eq!(captures.len(), glob.captures() + 1);
    assert_eq!(captures.get(0).map(|whole| whole.as_bytes()), Some(path));
}

#[derive(Clone, Copy, Debug)]
enum Token {
    /// This byte.
    Byte(u8),
    /// `?`: one character but `/`.
    Character,
    /// `*`: any bytes but `/`.
    Segment,
    /// `**`.
    Anything,
    /// The `**/` behind a slash.
    Directories,
}

/// The pattern, if it has neither sets nor braces nor escapes.
fn tokens(pattern: &str) -> Option<Vec<Token>> {
    let mut rest = pattern.as_bytes();
    let mut tokens = Vec::new();
    while let [first, behind @ ..] = rest {
        rest = behind;
        match first {
            b'[' | b'{' | b'}' | b'\\' => return None,
            b'?' => tokens.push(Token::Character),
            b'*' => match rest.strip_prefix(b"*") {
                Some(behind) => {
                    tokens.push(Token::Anything);
                    rest = behind;
                }
                None => tokens.push(Token::Segment),
            },
            b'/' => {
                tokens.push(Token::Byte(b'/'));
                while let Some(behind) = rest.strip_prefix(b"**/") {
                    tokens.push(Token::Directories);
                    rest = behind;
                }
            }
            byte => tokens.push(Token::Byte(*byte)),
        }
    }
    Some(tokens)
}

fn matches(tokens: &[Token], path: &[u8]) -> bool {
    // Where in the path the next token may begin.
    let mut starts = vec![false; path.len() + 1];
    starts[0] = true;
    for token in tokens {
        let mut ends = vec![false; path.len() + 1];
        for start in (0..starts.len()).filter(|start| starts[*start]) {
            mark_ends(*token, path, start, &mut ends);
        }
        starts = ends;
    }
    starts[path.len()]
}

/// Marks where `token` may end that begins at `start`.
fn mark_ends(token: Token, path: &[u8], start: usize, ends: &mut [bool]) {
    let rest = &path[start..];
    let behind = |byte: u8| (1..=rest.len()).filter(move |len| rest[len - 1] == byte);
    match token {
        Token::Byte(byte) => {
            if rest.first() == Some(&byte) {
                ends[start + 1] = true;
            }
        }
        Token::Character => {
            if let Some(len) = character(rest) {
                ends[start + len] = true;
            }
        }
        Token::Segment => {
            let len = behind(b'/').next().map_or(rest.len(), |len| len - 1);
            ends[start..=start + len].fill(true);
        }
        Token::Anything => ends[start..].fill(true),
        Token::Directories => {
            ends[start] = true;
            behind(b'/').for_each(|len| ends[start + len] = true);
        }
    }
}

/// The bytes of the character at the start, but of a slash.
fn character(rest: &[u8]) -> Option<usize> {
    let is_character = |len: &usize| {
        rest.get(..*len)
            .is_some_and(|it| str::from_utf8(it).is_ok())
    };
    let len = (1..=4).find(is_character)?;
    (rest[0] != b'/').then_some(len)
}
