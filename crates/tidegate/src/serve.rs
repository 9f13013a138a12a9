//! `tidegate serve` and `tidegate run`: serve until a clean stop.

use std::error::Error;
use std::io::{self, Write};

use tidegate_config::{Settings, Source};
use tidegate_server::{Address, Error as ServerError};

use crate::cli::{RunArgs, ServeArgs};
use crate::{log, tls};

/// Serves a directory with the defaults.
pub(crate) fn directory(args: ServeArgs) -> Result<(), Box<dyn Error>> {
    serve(args.settings()?)?;
    Ok(())
}

/// Serves as a configuration file says.
pub(crate) fn from_file(args: RunArgs) -> Result<(), Box<dyn Error>> {
    let source = Source::read(&args.config)?;
    let mut settings = source.settings()?;
    args.overrides.apply(&mut settings)?;
    let tls = settings.tls.clone();
    serve(settings).map_err(|error| match error {
        ServerError::Tls(error) => tls::placed(&source, &tls, &error).into(),
        error => Box::<dyn Error>::from(error),
    })
}

fn serve(settings: Settings) -> Result<(), ServerError> {
    log::start();
    tidegate_server::run(settings, announce)
}

/// Tells whoever started the process where it listens. A standard output that
/// is gone is no reason to stop serving.
fn announce(addresses: &[Address]) {
    let mut output = io::stdout().lock();
    if let Err(error) = write_addresses(&mut output, addresses) {
        tracing::warn!(%error, "cannot write the addresses to standard output");
    }
}

fn write_addresses(output: &mut impl Write, addresses: &[Address]) -> io::Result<()> {
    for address in addresses {
        writeln!(output, "listening on {address}")?;
    }
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_address() {
        let addresses = [("127.0.0.1:80", false), ("[::1]:8443", true)];
        let addresses = addresses.map(|(text, secure)| Address {
            socket: text.parse().unwrap(),
            secure,
        });
        let mut output = Vec::new();
        write_addresses(&mut output, &addresses).unwrap();
        let text = String::from_utf8(output).unwrap();
        assert_eq!(
            text,
            "listening on http://127.0.0.1:80\nlistening on https://[::1]:8443\n"
        );
    }
}
