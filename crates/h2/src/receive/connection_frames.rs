//! Frames of the connection.

use super::{Outcome, tokens_of};
use crate::connection::Phase;
use crate::control::{Control, setting};
use crate::frame::{self, FrameHeader, MAX_31_BITS, PAYLOAD_BYTES_MAX, flag};
use crate::priority::Priority;
use crate::{Connection, ConnectionError};

/// Bytes of settings that cost as much as a frame: many more than a peer ever has to set.
const LONG_SETTINGS_BYTES: usize = 16 * 6;

impl<T> Connection<T> {
    /// SETTINGS (RFC 9113, section 6.5).
    pub(super) fn on_settings(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome<T> {
        check_connection(header)?;
        if header.has(flag::ACK) {
            // That this side's settings are known changes nothing: none is stricter than its
            // initial value.
            return match payload {
                [] => self.idle(),
                _ => Err(ConnectionError::FrameLength),
            };
        }
        let mut cost = 1 + (payload.len() / LONG_SETTINGS_BYTES) as u32;
        let mut window = None;
        for (number, value) in frame::settings(payload)? {
            check_setting(number, value)?;
            match number {
                setting::HEADER_TABLE_SIZE => self.encoder.set_table_size(value),
                setting::INITIAL_WINDOW_SIZE => window = Some(value),
                _ => {}
            }
        }
        // Once for each frame, however often it has the setting: it goes through all streams.
        if let Some(window) = window {
            self.set_initial_window(window)?;
            cost += self.streams.len() as u32 / 4;
        }
        self.reader.has_settings = true;
        self.control.settings_ack();
        self.spend(cost)
    }

    /// Changes the windows of open streams, too (RFC 9113, section 6.9.2).
    fn set_initial_window(&mut self, bytes: u32) -> Result<(), ConnectionError> {
        let delta = i64::from(bytes) - i64::from(self.initial_send_window);
        self.initial_send_window = bytes;
        let changed = self.streams.change_windows(delta);
        changed.map_err(|_| ConnectionError::WindowOverflow)
    }

    /// PING (RFC 9113, section 6.7).
    pub(super) fn on_ping(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome<T> {
        check_connection(header)?;
        let data = payload.try_into();
        let data = data.map_err(|_| ConnectionError::FrameLength)?;
        if !header.has(flag::ACK) {
            self.control.ping_ack(data);
        } else if self.phase == Phase::GoingAway && Control::is_go_away_ping(data) {
            self.finish_go_away();
        }
        self.idle()
    }

    /// GOAWAY (RFC 9113, section 6.8): nothing that this side would open is affected, and the peer
    /// closes the connection when it has its responses.
    pub(super) fn on_go_away(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome<T> {
        check_connection(header)?;
        if payload.len() < 8 {
            return Err(ConnectionError::FrameLength);
        }
        self.spend(tokens_of(payload.len()))
    }

    /// PRIORITY_UPDATE (RFC 9218, section 7.1).
    pub(super) fn on_priority_update(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome<T> {
        check_connection(header)?;
        let (number, value) = payload
            .split_first_chunk()
            .ok_or(ConnectionError::FrameLength)?;
        let number = u32::from_be_bytes(*number) & MAX_31_BITS;
        // 0 is the connection, and even numbers are those of pushes, which never are promised.
        if number.is_multiple_of(2) {
            return Err(ConnectionError::PriorityUpdate);
        }
        let priority = Priority::of(value);
        if let Some(stream) = self.streams.find(number) {
            self.streams.set_priority(stream, priority);
        } else if number > self.streams.highest {
            self.set_pending_priority(number, priority)?;
        }
        self.spend(tokens_of(value.len()))
    }

    /// Open streams and these may be as many as may be open.
    fn set_pending_priority(
        &mut self,
        number: u32,
        priority: Priority,
    ) -> Result<(), ConnectionError> {
        let max = self.limits.concurrent_streams as usize;
        let max = max.saturating_sub(self.streams.len());
        let pending = self.priorities.get_or_insert_default();
        if !pending.set(number, priority, max) {
            return Err(ConnectionError::PriorityUpdate);
        }
        Ok(())
    }
}

/// The frame must not be on a stream.
fn check_connection(header: FrameHeader) -> Result<(), ConnectionError> {
    match header.stream {
        0 => Ok(()),
        _ => Err(ConnectionError::FrameStream),
    }
}

/// The values that a setting may have (RFC 9113, section 6.5.2; RFC 9218, section 2.1). Unknown
/// settings are ignored.
fn check_setting(number: u16, value: u32) -> Result<(), ConnectionError> {
    const FRAME_SIZES: std::ops::RangeInclusive<u32> = PAYLOAD_BYTES_MAX as u32..=(1 << 24) - 1;
    match number {
        setting::ENABLE_PUSH | setting::NO_RFC7540_PRIORITIES if value > 1 => {
            Err(ConnectionError::Setting)
        }
        setting::INITIAL_WINDOW_SIZE if value > MAX_31_BITS => Err(ConnectionError::InitialWindow),
        setting::MAX_FRAME_SIZE if !FRAME_SIZES.contains(&value) => Err(ConnectionError::Setting),
        _ => Ok(()),
    }
}
