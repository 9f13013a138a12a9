//! Accept-Encoding and Accept: the order of a list, its lines and the case of its letters change
//! nothing, and only what is offered is chosen.

use tidegate_http::{Accepted, Choice, Coding, Method, Navigation, list, prefers, prefers_json};

use crate::request::{is_value, line, request};

/// `data` is the value of the field.
pub(crate) fn check(data: &[u8]) {
    if is_value(data) {
        check_codings(data);
        check_media_types(data);
    }
}

fn of(lines: &[u8]) -> Accepted {
    Accepted::of(&request(Method::Get, lines))
}

fn check_codings(value: &[u8]) {
    const NAME: &str = "Accept-Encoding";
    let accepted = of(&line(NAME, value));
    let apart: Vec<_> = list(value).map(|element| line(NAME, element)).collect();
    if !apart.is_empty() {
        assert_eq!(of(&apart.concat()), accepted);
    }
    let mut elements: Vec<_> = list(value).collect();
    elements.reverse();
    assert_eq!(of(&line(NAME, &elements.join(&b", "[..]))), accepted);
    assert_eq!(of(&line(NAME, &value.to_ascii_uppercase())), accepted);
    check_choices(accepted);
}

fn check_choices(accepted: Accepted) {
    let chosen = accepted.choose(Coding::ALL);
    match (chosen, accepted.choose_coded(Coding::ALL)) {
        (Choice::Coded(coding), best) => {
            assert_eq!(best, Some(coding));
            assert_eq!(accepted.choose([coding]), chosen);
        }
        // Identity is wanted more, or there is nothing else.
        (Choice::Identity, _) => assert_ne!(accepted.choose([]), Choice::None),
        (Choice::None, best) => assert_eq!(best, None),
    }
    for coding in Coding::ALL {
        let alone = accepted.choose_coded([coding]);
        assert!(alone.is_none_or(|alone| alone == coding));
    }
}

fn check_media_types(value: &[u8]) {
    let lines = line("Accept", value);
    let request = request(Method::Get, &lines);
    let (html, json) = (["text", "html"], ["application", "json"]);
    assert!(!(prefers(&request, html, json) && prefers_json(&request)));
    match Navigation::of(&request) {
        Navigation::Told => panic!("there is no Fetch Metadata"),
        Navigation::TakesAnything => assert!(!prefers_json(&request)),
        Navigation::TakesHtml | Navigation::No => {}
    }
}
