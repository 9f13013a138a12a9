//! Keys in the form in which the kernel takes them.

use std::io;
use std::mem;
use std::os::fd::BorrowedFd;

use rustls::{ConnectionTrafficSecrets, SupportedCipherSuite};
use zeroize::Zeroizing;

use crate::kernel::suite::Suite;
use crate::kernel::sys::{get_option, set_option};

/// `struct tls_crypto_info`: version and cipher type.
const CRYPTO_INFO_HEAD_BYTES: usize = 4;

/// The layouts that [`crypto_info`] writes are those of linux/tls.h.
const _: () = {
    assert!(mem::size_of::<libc::tls12_crypto_info_aes_gcm_128>() == 4 + 12 + 16 + 8);
    assert!(mem::size_of::<libc::tls12_crypto_info_aes_gcm_256>() == 4 + 12 + 32 + 8);
    assert!(mem::size_of::<libc::tls12_crypto_info_chacha20_poly1305>() == 4 + 12 + 32 + 8);
};

/// Prepares `socket` for [`Handshake::into_kernel`](crate::Handshake::into_kernel). The connection
/// can still go on in user space afterwards, whether this fails or not.
///
/// `NotConnected` if the client has sent its FIN: TCP accepts the upper layer protocol only before
/// that.
pub fn prepare(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_TCP, libc::TCP_ULP, b"tls")
}

/// Installs the keys of one direction: `TLS_TX` or `TLS_RX`.
pub(crate) fn set_keys(
    socket: BorrowedFd<'_>,
    direction: libc::c_int,
    sequence: u64,
    secrets: &ConnectionTrafficSecrets,
) -> io::Result<()> {
    let info = crypto_info(sequence, secrets)?;
    set_option(socket, libc::SOL_TLS, direction, &info)
}

/// `struct tls12_crypto_info_*` of linux/tls.h: version and cipher type, then (all of them bytes,
/// so without padding) iv, key, salt, sequence number. The kernel's salt and iv together are the
/// 12 bytes of IV of TLS 1.3; for `ChaCha20` there is no salt. Wiped when dropped.
fn crypto_info(
    sequence: u64,
    secrets: &ConnectionTrafficSecrets,
) -> io::Result<Zeroizing<Vec<u8>>> {
    let (cipher, key, key_bytes, iv, salt_bytes) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => {
            (libc::TLS_CIPHER_AES_GCM_128, key, 16, iv, 4)
        }
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => {
            (libc::TLS_CIPHER_AES_GCM_256, key, 32, iv, 4)
        }
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
            (libc::TLS_CIPHER_CHACHA20_POLY1305, key, 32, iv, 0)
        }
        _ => return Err(io::Error::from(io::ErrorKind::Unsupported)),
    };
    let key = &key.as_ref()[..key_bytes];
    let (salt, explicit) = iv.as_ref().split_at(salt_bytes);
    // Allocated at its final size: growing would leave a copy that is not wiped.
    let mut info = Zeroizing::new(Vec::with_capacity(CRYPTO_INFO_HEAD_BYTES + 12 + 32 + 8));
    info.extend_from_slice(&libc::TLS_1_3_VERSION.to_ne_bytes());
    info.extend_from_slice(&cipher.to_ne_bytes());
    info.extend_from_slice(explicit);
    info.extend_from_slice(key);
    info.extend_from_slice(salt);
    info.extend_from_slice(&sequence.to_be_bytes());
    Ok(info)
}

/// Has the kernel decrypt the next record after one that holds only the start of a KeyUpdate.
///
/// Linux 6.14 and newer take the first byte for a whole KeyUpdate, and wait for the next keys
/// (EKEYEXPIRED): so the current keys are installed once more. Older kernels do not wait, and
/// accept keys only once.
pub(crate) fn read_on(socket: BorrowedFd<'_>, suite: SupportedCipherSuite) -> io::Result<()> {
    let bytes = match Suite::of(suite) {
        Some(Suite::Aes128Gcm) => mem::size_of::<libc::tls12_crypto_info_aes_gcm_128>(),
        _ => mem::size_of::<libc::tls12_crypto_info_aes_gcm_256>(),
    };
    let mut keys = Zeroizing::new(vec![0; bytes]);
    get_option(socket, libc::SOL_TLS, libc::TLS_RX, &mut keys)?;
    match set_option(socket, libc::SOL_TLS, libc::TLS_RX, &keys) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        set => set,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_that_of_the_kernel() {
        let key: [u8; 32] = std::array::from_fn(|index| index as u8);
        let iv: [u8; 12] = std::array::from_fn(|index| 100 + index as u8);
        let secrets = ConnectionTrafficSecrets::Aes128Gcm {
            key: key.into(),
            iv: iv.into(),
        };
        let info = crypto_info(7, &secrets).unwrap();
        assert_eq!(
            info.len(),
            mem::size_of::<libc::tls12_crypto_info_aes_gcm_128>()
        );
        assert_eq!(info[..4], [4, 3, 51, 0]);
        assert_eq!(info[4..12], iv[4..]);
        assert_eq!(info[12..28], key[..16]);
        assert_eq!(info[28..32], iv[..4]);
        assert_eq!(info[32..], [0, 0, 0, 0, 0, 0, 0, 7]);

        let secrets = ConnectionTrafficSecrets::Chacha20Poly1305 {
            key: key.into(),
            iv: iv.into(),
        };
        let info = crypto_info(1 << 40, &secrets).unwrap();
        assert_eq!(
            info.len(),
            mem::size_of::<libc::tls12_crypto_info_chacha20_poly1305>()
        );
        assert_eq!(info[4..16], iv);
        assert_eq!(info[16..48], key);
        assert_eq!(info[48..], [0, 0, 1, 0, 0, 0, 0, 0]);
    }
}
