//! What the op ring can be asked for: the ops of this crate, and nothing else. Code that got hold
//! of the ring could not connect, unlink or rename by it, nor register anything with it.

use io_uring::{IoUring, opcode, register::Restriction, squeue};

use crate::error::Error;
use crate::features::Features;

/// Ops of every kernel that is supported.
const OPS: [u8; 12] = [
    opcode::AcceptMulti::CODE,
    opcode::AsyncCancel::CODE,
    opcode::Close::CODE,
    opcode::Fadvise::CODE,
    opcode::Nop::CODE,
    opcode::OpenAt2::CODE,
    opcode::PollAdd::CODE,
    opcode::Read::CODE,
    opcode::RecvMulti::CODE,
    opcode::Send::CODE,
    opcode::Splice::CODE,
    opcode::Statx::CODE,
];

/// Restricts a ring that is set up and disabled, and enables it for the calling thread
/// (`io_uring_register(2)`, `IORING_REGISTER_RESTRICTIONS`).
pub(crate) fn restrict_and_enable(io: &IoUring, features: Features) -> Result<(), Error> {
    let flags = squeue::Flags::ASYNC | squeue::Flags::BUFFER_SELECT | squeue::Flags::SKIP_SUCCESS;
    let pipe = features.pipe.then_some(opcode::Pipe::CODE);
    let ops = OPS.into_iter().chain(pipe).map(Restriction::sqe_op);
    let mut restrictions: Vec<_> = ops.collect();
    restrictions.push(Restriction::sqe_flags_allowed(flags.bits()));
    io.submitter()
        .register_restrictions(&mut restrictions)
        .map_err(Error::setup("io_uring_register(RESTRICTIONS)"))?;
    io.submitter()
        .register_enable_rings()
        .map_err(Error::setup("io_uring_register(ENABLE_RINGS)"))
}

#[cfg(test)]
mod tests {
    use io_uring::types;

    use super::*;
    use crate::probe::probe;
    use crate::setup::setup_disabled;

    /// What the kernel answers to an entry without an address.
    fn answer(io: &mut IoUring, entry: &squeue::Entry) -> i32 {
        // SAFETY: the entry holds no address but null.
        unsafe { io.submission().push(entry) }.unwrap();
        io.submit_and_wait(1).unwrap();
        let completion = io.completion().next().unwrap();
        completion.result()
    }

    #[test]
    fn a_ring_does_what_the_server_needs_and_nothing_else() {
        let mut io = setup_disabled(8, 16).unwrap();
        restrict_and_enable(&io, probe().unwrap()).unwrap();
        let nowhere = types::Fd(-1);
        assert_eq!(answer(&mut io, &opcode::Nop::new().build()), 0);
        let forbidden = [
            opcode::Connect::new(nowhere, std::ptr::null(), 0).build(),
            opcode::UnlinkAt::new(nowhere, std::ptr::null()).build(),
            opcode::Write::new(nowhere, std::ptr::null(), 0).build(),
            opcode::Nop::new().build().flags(squeue::Flags::IO_LINK),
        ];
        for entry in &forbidden {
            assert_eq!(answer(&mut io, entry), -libc::EACCES, "{entry:?}");
        }
        let registered = io.submitter().register_files(&[0]);
        assert_eq!(
            registered.unwrap_err().raw_os_error(),
            Some(libc::EACCES),
            "a registration"
        );
    }
}
