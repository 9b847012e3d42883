//! How results are told: a line for people, an object for programs; streams until interrupted.
//!
//! A line stays a line whatever a value holds, except where a value is all that is printed: then it
//! is printed byte for byte.

use std::fmt::Display;
use std::io::{Read, Write};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::target::{Stop, Target};
use super::{Exit, Failure, said, say};
use crate::client::{Change, Fault, Stream, Versioned, Written};
use crate::limits;

/// Something that happened or is, in both forms.
pub struct Told {
    /// For programs.
    pub json: Value,
    /// For people.
    pub line: String,
}

/// What an entry holds, as a line and as members of an object.
pub trait Content {
    /// For people.
    fn line(&self) -> String;
    /// For programs: put into `object`.
    fn fill(&self, object: &mut Value);
}

impl Content for Versioned {
    fn line(&self) -> String {
        shown(&self.value)
    }

    fn fill(&self, object: &mut Value) {
        object["value"] = json_value(&self.value);
        object["version"] = self.version.into();
    }
}

impl Content for i64 {
    fn line(&self) -> String {
        self.to_string()
    }

    fn fill(&self, object: &mut Value) {
        object["value"] = (*self).into();
    }
}

impl Content for Vec<String> {
    fn line(&self) -> String {
        let values = self.iter().map(|value| match shown(value.as_bytes()) {
            // Else one value would look like two.
            value if value.contains(' ') && !value.starts_with('"') => format!("\"{value}\""),
            value => value,
        });
        values.collect::<Vec<String>>().join(" ")
    }

    fn fill(&self, object: &mut Value) {
        object["values"] = self.clone().into();
    }
}

impl Told {
    /// What `object` names, with its content; `None`: it is gone.
    pub fn entry(mut object: Value, name: &str, content: Option<&impl Content>) -> Told {
        match content {
            Some(content) => {
                content.fill(&mut object);
                Told { json: object, line: format!("{name} = {}", content.line()) }
            }
            None => {
                object["removed"] = true.into();
                Told { json: object, line: format!("{name} is gone") }
            }
        }
    }

    /// A change of what `object` names.
    pub fn change(mut object: Value, name: &str, change: &Change<impl Content>) -> Told {
        let (word, content) = match change {
            Change::Inserted(value) => ("inserted", value),
            Change::Updated { value, prev } => {
                let mut before = json!({});
                prev.fill(&mut before);
                object["prev"] = before;
                ("updated", value)
            }
            Change::Removed { value, expired: true } => ("expired", value),
            Change::Removed { value, expired: false } => ("removed", value),
        };
        object["event"] = word.into();
        content.fill(&mut object);
        let gap = if name.is_empty() { "" } else { " " };
        let sign = if name.is_empty() { "" } else { " =" };
        Told { json: object, line: format!("{word}{gap}{name}{sign} {}", content.line()) }
    }
}

impl Target {
    /// Tells a result in the form that was asked for.
    pub fn tell(&self, json: &Value, line: &dyn Display) {
        if self.json { say(json) } else { say(line) }
    }

    /// The same of something that has both forms.
    pub fn told(&self, told: &Told) {
        self.tell(&told.json, &told.line);
    }

    /// Tells a result that is one value: byte for byte, with a line's end so that the next prompt
    /// begins on a line of its own.
    pub fn tell_value(&self, json: &Value, value: &[u8]) {
        if self.json {
            say(json);
            return;
        }
        let mut out = std::io::stdout().lock();
        said(out.write_all(value).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()));
    }

    /// Tells what a write did to what `object` names.
    pub fn tell_written(&self, mut object: Value, written: &Written) {
        object["version"] = written.version.into();
        self.tell(&object, &format_args!("version {}", written.version));
    }

    /// Tells whether something is there; that it is not is an exit status of its own.
    #[must_use]
    pub fn tell_contained(&self, mut object: Value, contained: bool) -> Exit {
        object["contained"] = contained.into();
        self.tell(&object, &contained);
        if contained { Exit::Done } else { Exit::No }
    }

    /// Tells the items of a stream until it ends, or until interrupted.
    ///
    /// # Errors
    /// How the stream ended otherwise.
    pub async fn follow<T>(
        &self,
        open: impl Future<Output = Result<Stream<T>, Fault>>,
        mut told: impl FnMut(&T) -> Told,
    ) -> Result<Exit, Failure> {
        let mut stop = Stop::catch()?;
        let following = async {
            let mut stream = open.await?;
            while let Some(item) = stream.next().await? {
                self.told(&told(&item));
            }
            Ok(Exit::Done)
        };
        tokio::select! {
            number = stop.next() => Ok(Exit::As(128 + number)),
            end = following => self.outcome(end),
        }
    }

    /// The same of a stream that has to be opened again when it breaks off, and then begins with
    /// all that there is.
    ///
    /// # Errors
    /// How the stream ended otherwise.
    pub async fn follow_again<T>(
        &self,
        open: impl AsyncFn() -> Result<Stream<T>, Fault>,
        mut told: impl FnMut(&T) -> Told,
    ) -> Result<Exit, Failure> {
        let mut stop = Stop::catch()?;
        let following = async {
            loop {
                let mut stream = open().await?;
                loop {
                    match stream.next().await {
                        Ok(Some(item)) => self.told(&told(&item)),
                        Ok(None) => return Ok(Exit::Done),
                        Err(Fault::Interrupted { .. }) => break,
                        Err(fault) => return Err(fault),
                    }
                }
                sleep(AGAIN).await;
            }
        };
        tokio::select! {
            number = stop.next() => Ok(Exit::As(128 + number)),
            end = following => self.outcome(end),
        }
    }
}

/// Between two tries to watch.
pub const AGAIN: Duration = Duration::from_millis(200);

/// A value as a line can show it: as it is when that is plain text that can be seen, else quoted
/// with escapes.
#[must_use]
pub fn shown(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if !text.is_empty() && !text.chars().any(char::is_control) => text.to_owned(),
        _ => format!("\"{}\"", value.escape_ascii()),
    }
}

/// A value as JSON can hold it: text, or `{"base64": ...}` when it is not UTF-8.
#[must_use]
pub fn json_value(value: &[u8]) -> Value {
    match std::str::from_utf8(value) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": STANDARD.encode(value) }),
    }
}

/// The value that was typed; `-` is what comes on standard input.
///
/// # Errors
/// When standard input cannot be read, or holds more than a node takes.
pub fn value(typed: &str) -> Result<Bytes, Failure> {
    if typed != "-" {
        return Ok(Bytes::from(typed.to_owned()));
    }
    let mut bytes = Vec::new();
    let most = limits::VALUE_BYTES_MAX as u64;
    let read = std::io::stdin().lock().take(most + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::new(Exit::Failed, format!("standard input: {error}")))?;
    if bytes.len() as u64 > most {
        let what = format!("the value on standard input is larger than {most} bytes");
        return Err(Failure::new(Exit::Usage, what));
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_so_that_a_line_stays_a_line() {
        assert_eq!(shown(b"plain text"), "plain text");
        assert_eq!(shown(b"two\nlines"), "\"two\\nlines\"");
        assert_eq!(shown(&[0xFF, b'a']), "\"\\xffa\"");
        assert_eq!(shown(b""), "\"\"");
        let values = ["", "a b", "c"].map(str::to_owned).to_vec();
        assert_eq!(values.line(), r#""" "a b" c"#);
    }

    #[test]
    fn a_change_is_told_in_both_forms() {
        let told = Told::change(json!({ "key": "k" }), "k", &Change::Updated { value: 2, prev: 1 });
        assert_eq!(told.line, "updated k = 2");
        let json = r#"{"event":"updated","key":"k","prev":{"value":1},"value":2}"#;
        assert_eq!(told.json.to_string(), json);
        let gone = Change::Removed { value: Versioned::default(), expired: true };
        assert_eq!(Told::change(json!({}), "", &gone).line, "expired \"\"");
    }
}
