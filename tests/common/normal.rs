//! What differs between two runs of the same thing, by shape: link-layer addresses, veth names, times, process ids.

/// Whether `text` is lowercase hex.
pub fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Replaces random and passing things by what they are: `<mac>`, `<veth>`, `<link-local>`, `<time>`, `<pid>`, `<word>`.
///
/// Known by shape: `rk` + 11 hex digits; `aa:bb:…` (all zeros and all ones stay); `fe80::…`; RFC 3339; a JSON number under a key
/// that ends in `pid` or `start_time`, and words that are only a number in a `pid` file (the caller replaces those).
pub fn shapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '+' | '-') {
            word.push(c);
        } else {
            out.push_str(&shape(&word, &out));
            word.clear();
            out.push(c);
        }
    }
    let last = shape(&word, &out);
    out.push_str(&last);
    out
}

/// `before` is the text so far, which tells the key of a JSON number.
fn shape(word: &str, before: &str) -> String {
    if word.is_empty() {
        return String::new();
    }
    // JSON without spaces leaves the colon at the word: `"pid":12`.
    let (colon, bare) = word.strip_prefix(':').map_or(("", word), |bare| (":", bare));
    if is_mac(bare) && !matches!(bare, "00:00:00:00:00:00" | "ff:ff:ff:ff:ff:ff") {
        return format!("{colon}<mac>");
    }
    if bare.len() == 13 && bare.strip_prefix("rk").is_some_and(is_hex) {
        return format!("{colon}<veth>");
    }
    // The random word by which a process knows the layer that it unpacked itself.
    if bare.len() == 32 && is_hex(bare) {
        return format!("{colon}<word>");
    }
    // As text, and as the number that nft makes of the target of a neighbour advertisement.
    if (bare.starts_with("fe80::") && bare.len() > 6) || bare.starts_with("0xfe80") {
        return format!("{colon}<link-local>");
    }
    if is_time(bare) {
        return format!("{colon}<time>");
    }
    if !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit()) && is_passing_key(before) {
        return format!("{colon}<pid>");
    }
    word.to_owned()
}

fn is_passing_key(before: &str) -> bool {
    // The end is `…pid\":` or `…pid": `, escaped or not.
    let key = before.trim_end_matches([' ', ':', '"', '\\']);
    key.len() < before.len() && ["pid", "start_time", "startTime", "process_start"].iter().any(|name| key.ends_with(name))
}

fn is_mac(word: &str) -> bool {
    word.len() == 17 && word.split(':').count() == 6 && word.split(':').all(|part| part.len() == 2 && is_hex(part))
}

fn is_time(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.len() >= 19
        && bytes.iter().take(10).enumerate().all(|(at, byte)| if at == 4 || at == 7 { *byte == b'-' } else { byte.is_ascii_digit() })
        && bytes[10] == b'T'
        && bytes[13] == b':'
}
