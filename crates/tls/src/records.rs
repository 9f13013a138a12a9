//! rustls' unbuffered API, driven to where it needs more bytes. Handshake and session share it, and
//! it is the one place to change when rustls 0.24 replaces that API.

use rustls::Error;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};

/// Where the connection is when all that was received is processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The handshake is not done.
    Handshaking,
    /// Data can be sent and received.
    Ready,
    /// The client has sent close_notify, and so have we.
    Closed,
}

/// What [`process`] has come to.
pub(crate) struct Processed {
    /// Bytes at the start of the input that are done with; the rest must be there, before what is
    /// received next, in the next call.
    pub(crate) used: usize,
    /// The client's close_notify was among the input.
    pub(crate) peer_closed: bool,
    /// After an error `out` holds the alert to be sent.
    pub(crate) state: Result<State, Error>,
}

/// Processes the records in `input` (decrypted in place): data is appended to `plaintext`, what is
/// to be sent to `out`.
pub(crate) fn process(
    connection: &mut UnbufferedServerConnection,
    input: &mut [u8],
    plaintext: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Processed {
    let mut used = 0;
    let mut peer_closed = false;
    let state = loop {
        let UnbufferedStatus { mut discard, state } =
            connection.process_tls_records(&mut input[used..]);
        let end = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                match traffic.next_record() {
                    Some(Ok(record)) => {
                        discard += record.discard;
                        plaintext.extend_from_slice(record.payload);
                    }
                    Some(Err(error)) => break Some(Err(error)),
                    None => break None,
                }
            },
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out).err().map(Err),
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                None
            }
            Ok(ConnectionState::PeerClosed) => {
                peer_closed = true;
                None
            }
            Ok(ConnectionState::BlockedHandshake) => Some(Ok(State::Handshaking)),
            Ok(ConnectionState::WriteTraffic(_)) => Some(Ok(State::Ready)),
            Ok(ConnectionState::Closed) => Some(Ok(State::Closed)),
            Ok(_) => Some(Err(Error::General("unexpected state of rustls".into()))),
            Err(error) => Some(Err(error)),
        };
        used += discard;
        if let Some(end) = end {
            break end;
        }
    };
    if state.is_err() {
        used += take_alert(connection, &mut input[used..], out);
    }
    Processed {
        used,
        peer_closed,
        state,
    }
}

/// After an error the alert waits in rustls, perhaps behind part of a flight. No call may be made
/// once they are taken: it would look at the record at fault again, and rustls answer it twice.
fn take_alert(
    connection: &mut UnbufferedServerConnection,
    input: &mut [u8],
    out: &mut Vec<u8>,
) -> usize {
    let mut used = 0;
    while connection.wants_write() {
        let UnbufferedStatus { discard, state } =
            connection.process_tls_records(&mut input[used..]);
        let encoded = match state {
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out).is_ok(),
            _ => false,
        };
        used += discard;
        if !encoded {
            break;
        }
    }
    used
}

fn encode(
    mut data: EncodeTlsData<'_, rustls::server::ServerConnectionData>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let start = out.len();
    // The first attempt only asks for the size.
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        out.resize(start + size.required_size, 0);
    }
    match data.encode(&mut out[start..]) {
        Ok(_) | Err(EncodeError::AlreadyEncoded) => Ok(()),
        Err(error) => Err(Error::General(error.to_string())),
    }
}
