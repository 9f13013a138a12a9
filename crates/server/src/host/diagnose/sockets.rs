//! The files of Unix sockets.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use tidegate_config::{Place, Settings, visible};

use crate::host::diagnose::diagnostic::Diagnostic;

/// Files that are no sockets where `[[listen]]` and `server.control` need one.
pub(super) fn occupied(settings: &Settings) -> Vec<Diagnostic> {
    let listeners = settings.listen.iter().enumerate();
    let listeners = listeners.filter_map(|(number, listen)| {
        let place = Place::of("listen").item(number).key("address");
        no_socket(listen.unix_path()?, place)
    });
    let control = settings.server.control.as_deref();
    let control = control.and_then(|path| no_socket(path, Place::of("server").key("control")));
    listeners.chain(control).collect()
}

fn no_socket(path: &Path, place: Place) -> Option<Diagnostic> {
    let found = fs::symlink_metadata(path).ok()?.file_type();
    let name = visible(&path.to_string_lossy());
    let reason = format!("{name}: a file that is no socket has this place: remove it");
    (!found.is_socket()).then(|| Diagnostic {
        is_error: true,
        ..Diagnostic::warning("listen", place, reason)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use tidegate_config::Listen;

    use super::*;

    #[test]
    fn only_sockets_may_be_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let mut settings = Settings::for_directory("/".into());
        settings.listen = vec![Listen {
            address: format!("unix:{}", path("listen").display()),
            ..Listen::default()
        }];
        settings.server.control = Some(path("control"));
        assert_eq!(occupied(&settings), []);
        let _socket = UnixListener::bind(path("listen")).unwrap();
        assert_eq!(occupied(&settings), []);
        fs::remove_file(path("listen")).unwrap();
        fs::write(path("listen"), "").unwrap();
        fs::write(path("control"), "").unwrap();
        let found = occupied(&settings);
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|one| one.is_error), "{found:?}");
    }
}
