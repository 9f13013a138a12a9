//! Drives rustls' unbuffered API until it needs more bytes. Handshake and session share this
//! module, the one place to change when rustls 0.24 replaces that API.

use rustls::Error;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};

/// The state of the connection when all received bytes are processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The handshake is not done.
    Handshaking,
    /// Data can be sent and received.
    Ready,
    /// The client has sent close_notify, and so have we.
    Closed,
}

/// The result of [`process`].
pub(crate) struct Processed {
    /// Bytes consumed from the start of the input; the next call needs the rest, followed by newly
    /// received bytes.
    pub(crate) used: usize,
    /// The client's close_notify was among the input.
    pub(crate) peer_closed: bool,
    /// On an error, `out` holds the alert to send.
    pub(crate) state: Result<State, Error>,
}

/// Processes the records in `input` (decrypted in place): data is appended to `plaintext`, output
/// to `out`.
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

/// After an error rustls holds the alert, perhaps behind part of a flight. Make no call once they
/// are taken: rustls would process the faulty record again, and send a second alert.
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
    // The first attempt only returns the size.
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        out.resize(start + size.required_size, 0);
    }
    match data.encode(&mut out[start..]) {
        Ok(_) | Err(EncodeError::AlreadyEncoded) => Ok(()),
        Err(error) => Err(Error::General(error.to_string())),
    }
}
