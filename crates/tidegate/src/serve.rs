//! `tidegate serve` and `tidegate run`: serve until a clean stop.

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;

use tidegate_config::Settings;

use crate::cli::{RunArgs, ServeArgs};
use crate::log;

/// Serves a directory with the defaults.
pub(crate) fn directory(args: ServeArgs) -> Result<(), Box<dyn Error>> {
    serve(args.settings())
}

/// Serves as a configuration file says.
pub(crate) fn from_file(args: RunArgs) -> Result<(), Box<dyn Error>> {
    let mut settings = Settings::load(&args.config)?;
    args.overrides.apply(&mut settings);
    serve(settings)
}

fn serve(settings: Settings) -> Result<(), Box<dyn Error>> {
    log::start();
    tidegate_server::run(settings, announce)?;
    Ok(())
}

/// Tells whoever started the process where it listens. A standard output that
/// is gone is no reason to stop serving.
fn announce(addresses: &[SocketAddr]) {
    let mut output = io::stdout().lock();
    if let Err(error) = write_addresses(&mut output, addresses) {
        tracing::warn!(%error, "cannot write the addresses to standard output");
    }
}

fn write_addresses(output: &mut impl Write, addresses: &[SocketAddr]) -> io::Result<()> {
    for address in addresses {
        writeln!(output, "listening on http://{address}")?;
    }
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_address() {
        let addresses = ["127.0.0.1:80", "[::1]:8080"].map(|text| text.parse().unwrap());
        let mut output = Vec::new();
        write_addresses(&mut output, &addresses).unwrap();
        let text = String::from_utf8(output).unwrap();
        assert_eq!(
            text,
            "listening on http://127.0.0.1:80\nlistening on http://[::1]:8080\n"
        );
    }
}
