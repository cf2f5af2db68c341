//! Reading a node's trace: one event a line, as `docs/TRACE.md` specifies.
//!
//! The reader follows a file that is still being written: each [`TraceReader::poll`] hands on the lines that have been
//! completed since the last one. It is strict. A line that it does not understand is an error with file and line
//! number, because a trace read half right gives figures that look right.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use starling_protocol::id::{MESSAGE_ID_BYTES, MessageId};

/// The first line of every trace: the format and its version.
pub const HEADER: &str = "starling-trace,1";
/// A line longer than this is no trace line; it bounds what the reader holds.
const LINE_BYTES_MAX: usize = 1_024;

/// What kind of message an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// A signed transaction.
    Transaction,
    /// A signed block.
    Block,
}

impl Class {
    /// Both classes, in the order of reports.
    pub const ALL: [Self; 2] = [Self::Transaction, Self::Block];

    /// The word for it in traces and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Block => "block",
        }
    }

    /// Its place in [`Class::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the first copy of a message came to a node over the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// A peer sent it unasked.
    Pushed,
    /// The node had asked for it after an announcement.
    Pulled,
}

/// Bytes counted since a node's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Read from sockets: everything, handshakes and encryption included.
    pub socket_in: u64,
    /// Written to sockets.
    pub socket_out: u64,
    /// Mesh frames received, as encoded, before multiplexing and encryption.
    pub frame_in: u64,
    /// Mesh frames sent.
    pub frame_out: u64,
}

impl Counters {
    /// What was counted in both.
    pub(super) fn plus(&self, other: &Self) -> Self {
        Self {
            socket_in: self.socket_in.saturating_add(other.socket_in),
            socket_out: self.socket_out.saturating_add(other.socket_out),
            frame_in: self.frame_in.saturating_add(other.frame_in),
            frame_out: self.frame_out.saturating_add(other.frame_out),
        }
    }
}

/// One line of a trace. Times are microseconds of the host's monotonic clock.
///
/// `from` is the sender's peer id in text, and `frame_bytes` is what the message's copy took in the mesh frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields repeat those of docs/TRACE.md, which says more than one line each could")]
pub enum Event<'a> {
    /// The node's own engine handled the publishing of a message: `t0`.
    Publish { class: Class, id: MessageId, t_us: u64, payload_bytes: u64 },
    /// The first copy of a message was decoded.
    Arrive { class: Class, id: MessageId, t_us: u64, from: &'a str, how: How, frame_bytes: u64 },
    /// A further copy was decoded.
    Copy { class: Class, id: MessageId, t_us: u64, from: &'a str, frame_bytes: u64 },
    /// Validation accepted a message.
    Accept { class: Class, id: MessageId, t_us: u64 },
    /// A transaction was first seen inside a block.
    InBlock { id: MessageId, t_us: u64, from: &'a str },
    /// The number of mesh links of a topic changed.
    Mesh { t_us: u64, class: Class, degree: u32 },
    /// How late the event loop ran its turns in the last second.
    Lag { t_us: u64, p50_us: u64, p99_us: u64, max_us: u64 },
    /// Byte counters, written once a second and at the end.
    Bytes { t_us: u64, counters: Counters },
    /// So many lines had to be left out here, because they came faster than they could be written.
    Dropped { lines: u64 },
}

impl<'a> Event<'a> {
    /// Reads one line, without its line break.
    ///
    /// # Errors
    /// Says which field is wrong and what would be right.
    pub fn parse(line: &'a str) -> Result<Self, LineError> {
        let mut fields = Fields { rest: Some(line), number: 0 };
        let event = match fields.text("an event kind")? {
            "publish" => Self::Publish {
                class: fields.class()?,
                id: fields.id()?,
                t_us: fields.number("a time in microseconds")?,
                payload_bytes: fields.number("a number of bytes")?,
            },
            "arrive" => Self::Arrive {
                class: fields.class()?,
                id: fields.id()?,
                t_us: fields.number("a time in microseconds")?,
                from: fields.text("a peer id")?,
                how: fields.how()?,
                frame_bytes: fields.number("a number of bytes")?,
            },
            "copy" => Self::Copy {
                class: fields.class()?,
                id: fields.id()?,
                t_us: fields.number("a time in microseconds")?,
                from: fields.text("a peer id")?,
                frame_bytes: fields.number("a number of bytes")?,
            },
            "accept" => Self::Accept {
                class: fields.class()?,
                id: fields.id()?,
                t_us: fields.number("a time in microseconds")?,
            },
            "inblock" => match fields.class()? {
                Class::Transaction => Self::InBlock {
                    id: fields.id()?,
                    t_us: fields.number("a time in microseconds")?,
                    from: fields.text("a peer id")?,
                },
                Class::Block => return Err(fields.wrong("block", "transaction, for only those come inside blocks")),
            },
            "mesh" => Self::Mesh {
                t_us: fields.number("a time in microseconds")?,
                class: fields.class()?,
                degree: fields.number("a mesh degree")?,
            },
            "lag" => Self::Lag {
                t_us: fields.number("a time in microseconds")?,
                p50_us: fields.number("a lag in microseconds")?,
                p99_us: fields.number("a lag in microseconds")?,
                max_us: fields.number("a lag in microseconds")?,
            },
            "bytes" => Self::Bytes {
                t_us: fields.number("a time in microseconds")?,
                counters: Counters {
                    socket_in: fields.number("a number of bytes")?,
                    socket_out: fields.number("a number of bytes")?,
                    frame_in: fields.number("a number of bytes")?,
                    frame_out: fields.number("a number of bytes")?,
                },
            },
            "dropped" => Self::Dropped { lines: fields.number("a number of lines")? },
            unknown => {
                const KINDS: &str = "publish, arrive, copy, accept, inblock, mesh, lag, bytes or dropped";
                return Err(fields.wrong(unknown, KINDS));
            }
        };
        match fields.rest {
            None => Ok(event),
            Some(_) => Err(LineError::Excess { fields: fields.number }),
        }
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// A field is absent.
    #[error("field {number} is missing; expected {expected}")]
    Missing {
        /// Which field, counted from one.
        number: usize,
        /// What belongs there.
        expected: &'static str,
    },
    /// A field holds something else than it should.
    #[error("field {number} is {found:?}; expected {expected}")]
    Wrong {
        /// Which field, counted from one.
        number: usize,
        /// What it holds.
        found: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// There are more fields than the kind has.
    #[error("there is more after field {fields}, with which this kind of line ends")]
    Excess {
        /// How many fields the kind has.
        fields: usize,
    },
    /// The file does not start as a trace does.
    #[error("the first line must be {HEADER:?}; this is no trace, or one of another version")]
    Header,
    /// The line has no end in sight.
    #[error("the line is longer than {LINE_BYTES_MAX} bytes; no trace line is")]
    Long,
    /// The line is not text.
    #[error("the line is not UTF-8 text")]
    NotText,
}

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file cannot be read.
    #[error("cannot read the trace {}: {source}", .path.display())]
    Unreadable {
        /// Which trace.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A line is wrong.
    #[error("the trace {}, line {line}: {error}", .path.display())]
    Line {
        /// Which trace.
        path: PathBuf,
        /// Which line, counted from one.
        line: u64,
        /// What is wrong with it.
        error: LineError,
    },
}

/// Follows one trace file.
#[derive(Debug)]
pub struct TraceReader {
    path: PathBuf,
    file: Option<File>,
    /// Read but not yet handed on: the start of a line whose end is still to be written.
    pending: Vec<u8>,
    lines: u64,
}

impl TraceReader {
    /// A reader of the trace at `path`, which need not exist yet: a node makes it when it starts.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, pending: Vec::new(), lines: 0 }
    }

    /// Hands on every line that has been completed since the last call.
    ///
    /// # Errors
    /// If the file cannot be read or a line is wrong. The reader is of no use after that.
    pub fn poll(&mut self, mut sink: impl FnMut(&Event<'_>)) -> Result<(), TraceError> {
        let Some(file) = open(&mut self.file, &self.path)? else { return Ok(()) };
        let mut chunk = vec![0; 256 * 1_024];
        loop {
            let read =
                file.read(&mut chunk).map_err(|source| TraceError::Unreadable { path: self.path.clone(), source })?;
            if read == 0 {
                return Ok(());
            }
            self.pending.extend_from_slice(&chunk[..read]);
            let complete = self.pending.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            for line in self.pending[..complete].split_inclusive(|&byte| byte == b'\n') {
                self.lines += 1;
                line_event(&line[..line.len() - 1], self.lines == 1)
                    .map_err(|error| TraceError::Line { path: self.path.clone(), line: self.lines, error })?
                    .iter()
                    .for_each(&mut sink);
            }
            self.pending.drain(..complete);
            if self.pending.len() > LINE_BYTES_MAX {
                let line = self.lines + 1;
                return Err(TraceError::Line { path: self.path.clone(), line, error: LineError::Long });
            }
        }
    }

    /// Whether the file ends in the middle of a line, as it does after a node was killed.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        !self.pending.is_empty()
    }
}

/// The file, opened now if it was not before; `None` while it does not exist.
fn open<'a>(file: &'a mut Option<File>, path: &Path) -> Result<Option<&'a mut File>, TraceError> {
    if file.is_none() {
        match File::open(path) {
            Ok(opened) => *file = Some(opened),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(TraceError::Unreadable { path: path.to_owned(), source }),
        }
    }
    Ok(file.as_mut())
}

/// The event of a line, or none for the header.
fn line_event(line: &[u8], first: bool) -> Result<Option<Event<'_>>, LineError> {
    if line.len() > LINE_BYTES_MAX {
        return Err(LineError::Long);
    }
    match std::str::from_utf8(line) {
        Ok(HEADER) if first => Ok(None),
        _ if first => Err(LineError::Header),
        Ok(text) => Event::parse(text).map(Some),
        Err(_) => Err(LineError::NotText),
    }
}

/// The fields of a line, taken from left to right.
struct Fields<'a> {
    rest: Option<&'a str>,
    /// How many have been taken.
    number: usize,
}

impl<'a> Fields<'a> {
    fn text(&mut self, expected: &'static str) -> Result<&'a str, LineError> {
        self.number += 1;
        let rest = self.rest.ok_or(LineError::Missing { number: self.number, expected })?;
        let (field, rest) = match rest.split_once(',') {
            Some((field, rest)) => (field, Some(rest)),
            None => (rest, None),
        };
        self.rest = rest;
        if field.is_empty() {
            return Err(LineError::Missing { number: self.number, expected });
        }
        Ok(field)
    }

    fn number<N: std::str::FromStr>(&mut self, expected: &'static str) -> Result<N, LineError> {
        let field = self.text(expected)?;
        field.parse().ok().ok_or_else(|| self.wrong(field, expected))
    }

    fn class(&mut self) -> Result<Class, LineError> {
        const EXPECTED: &str = "transaction or block";
        let field = self.text(EXPECTED)?;
        Class::ALL.into_iter().find(|class| class.name() == field).ok_or_else(|| self.wrong(field, EXPECTED))
    }

    fn how(&mut self) -> Result<How, LineError> {
        const EXPECTED: &str = "pushed or pulled";
        match self.text(EXPECTED)? {
            "pushed" => Ok(How::Pushed),
            "pulled" => Ok(How::Pulled),
            other => Err(self.wrong(other, EXPECTED)),
        }
    }

    fn id(&mut self) -> Result<MessageId, LineError> {
        const EXPECTED: &str = "a message id of 40 hexadecimal digits";
        let field = self.text(EXPECTED)?;
        let mut id = [0; MESSAGE_ID_BYTES];
        hex::decode_to_slice(field, &mut id).ok().ok_or_else(|| self.wrong(field, EXPECTED))?;
        Ok(MessageId(id))
    }

    fn wrong(&self, found: &str, expected: &'static str) -> LineError {
        LineError::Wrong { number: self.number, found: found.chars().take(64).collect(), expected }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const ID: &str = "000102030405060708090a0b0c0d0e0f10111213";

    #[test]
    fn every_kind_of_line_is_read() {
        let id = MessageId(std::array::from_fn(|at| u8::try_from(at).expect("small")));
        let (class, t_us) = (Class::Transaction, 77);
        let counters = Counters { socket_in: 1, socket_out: 2, frame_in: 3, frame_out: 4 };
        for (line, expected) in [
            (format!("publish,transaction,{ID},77,256"), Event::Publish { class, id, t_us, payload_bytes: 256 }),
            (
                format!("arrive,transaction,{ID},77,12D3,pulled,300"),
                Event::Arrive { class, id, t_us, from: "12D3", how: How::Pulled, frame_bytes: 300 },
            ),
            (
                format!("copy,block,{ID},77,12D3,300"),
                Event::Copy { class: Class::Block, id, t_us, from: "12D3", frame_bytes: 300 },
            ),
            (format!("accept,transaction,{ID},77"), Event::Accept { class, id, t_us }),
            (format!("inblock,transaction,{ID},77,12D3"), Event::InBlock { id, t_us, from: "12D3" }),
            ("mesh,77,block,8".to_owned(), Event::Mesh { t_us, class: Class::Block, degree: 8 }),
            ("lag,77,1,2,3".to_owned(), Event::Lag { t_us, p50_us: 1, p99_us: 2, max_us: 3 }),
            ("bytes,77,1,2,3,4".to_owned(), Event::Bytes { t_us, counters }),
            ("dropped,9".to_owned(), Event::Dropped { lines: 9 }),
        ] {
            assert_eq!(Event::parse(&line).as_ref(), Ok(&expected), "{line}");
        }
    }

    #[test]
    fn a_wrong_line_is_named_field_by_field() {
        for (line, expected) in [
            ("", "field 1 is missing; expected an event kind"),
            ("publsh,transaction", "field 1 is \"publsh\"; expected publish, arrive"),
            ("publish,tx", "field 2 is \"tx\"; expected transaction or block"),
            ("publish,transaction,00", "field 3 is \"00\"; expected a message id of 40"),
            (&format!("publish,transaction,{ID}"), "field 4 is missing; expected a time"),
            (&format!("publish,transaction,{ID},-1,2"), "field 4 is \"-1\"; expected a time"),
            (&format!("accept,transaction,{ID},1,2"), "more after field 4"),
            (&format!("arrive,block,{ID},1,p,flown,2"), "field 6 is \"flown\"; expected pushed or pulled"),
            (&format!("arrive,block,{ID},1,,pushed,2"), "field 5 is missing; expected a peer id"),
            (&format!("inblock,block,{ID},1,p"), "only those come inside blocks"),
            ("mesh,1,block,4294967296", "expected a mesh degree"),
            ("lag,1,2,3", "field 5 is missing"),
        ] {
            let error = Event::parse(line).expect_err(line).to_string();
            assert!(error.contains(expected), "{line:?} gives {error:?}, which lacks {expected:?}");
        }
    }

    /// The degrees of the mesh lines that a poll hands on.
    fn degrees(reader: &mut TraceReader) -> Result<Vec<u32>, TraceError> {
        let mut degrees = Vec::new();
        reader.poll(|event| match event {
            Event::Mesh { degree, .. } => degrees.push(*degree),
            other => panic!("unexpected {other:?}"),
        })?;
        Ok(degrees)
    }

    #[test]
    fn a_growing_file_is_followed_by_whole_lines() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("trace.csv");
        let mut reader = TraceReader::new(&path);
        assert!(degrees(&mut reader).expect("no file yet").is_empty());
        let mut file = File::create(&path).expect("created");
        let mut write = |text: &str| file.write_all(text.as_bytes()).expect("written");
        write("starling-tr");
        assert!(degrees(&mut reader).expect("half a header").is_empty());
        write("ace,1\nmesh,1,block,3\nmesh,2,blo");
        assert_eq!(degrees(&mut reader).expect("one line"), [3]);
        assert!(reader.is_cut_off());
        write("ck,4\n");
        assert_eq!(degrees(&mut reader).expect("the other"), [4]);
        assert!(!reader.is_cut_off());
        write("mesh,2,block\n");
        let error = degrees(&mut reader).expect_err("a short line").to_string();
        assert!(error.contains("trace.csv, line 4: field 4 is missing"), "{error}");
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("trace.csv");
        for (content, expected) in [
            ("starling-trace,2\n".as_bytes(), "line 1: the first line must be \"starling-trace,1\""),
            (&[0; 5_000], "line 1: the line is longer than"),
            (b"starling-trace,1\n\xff\n", "line 2: the line is not UTF-8"),
        ] {
            std::fs::write(&path, content).expect("written");
            let error = degrees(&mut TraceReader::new(&path)).expect_err("no trace").to_string();
            assert!(error.contains(expected), "{error:?} lacks {expected:?}");
        }
    }
}
