//! What a registry answered, in one line for people.

use std::fmt;

use serde_json::Value;

/// The most characters of a server's text that are shown.
const SHOWN: usize = 200;

/// A status and what the body says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `MANIFEST_UNKNOWN`, when the body is of the distribution API.
    pub code: String,
    /// The server's words.
    pub message: String,
}

impl Answer {
    /// Reads the body of an error. *Source:* distribution-spec, "Error Codes".
    pub fn parse(status: u16, body: &[u8]) -> Self {
        let first = serde_json::from_slice::<Value>(body).ok().and_then(|body| body.get("errors")?.as_array()?.first().cloned());
        let word = |error: &Value, name: &str| shown(error.get(name).and_then(Value::as_str).unwrap_or_default());
        let (code, message) = match &first {
            Some(error) => (word(error, "code"), word(error, "message")),
            None => (String::new(), shown(String::from_utf8_lossy(&body[..body.len().min(1024)]).lines().next().unwrap_or_default())),
        };
        Answer { status, code, message }
    }
}

/// The start of a server's text, without what could steer a terminal.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN).collect::<String>().trim().to_owned()
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.status {
            400 => " Bad Request",
            401 => " Unauthorized",
            403 => " Forbidden",
            404 => " Not Found",
            408 => " Request Timeout",
            429 => " Too Many Requests",
            500 => " Internal Server Error",
            502 => " Bad Gateway",
            503 => " Service Unavailable",
            504 => " Gateway Timeout",
            _ => "",
        };
        write!(f, "{}{name}", self.status)?;
        match (self.code.as_str(), self.message.as_str()) {
            ("", "") => Ok(()),
            ("", message) => write!(f, " ({message})"),
            (code, "") => write!(f, " ({code})"),
            (code, message) => write!(f, " ({code}: {message})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_short_and_harmless() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest \u001b[2Junknown","detail":{}}]}"#;
        assert_eq!(Answer::parse(404, body).to_string(), "404 Not Found (MANIFEST_UNKNOWN: manifest [2Junknown)");
        assert_eq!(Answer::parse(503, b"").to_string(), "503 Service Unavailable");
        assert_eq!(
            Answer::parse(400, b"Client sent an HTTP request to an HTTPS server.\nx").message,
            "Client sent an HTTP request to an HTTPS server."
        );
        for body in [&b"{\"errors\":[]}"[..], b"[1]", b"{\"errors\":1}", &[0xff; 4000], b"\n"] {
            assert!(Answer::parse(500, body).to_string().chars().count() < 3 * SHOWN);
        }
    }
}
