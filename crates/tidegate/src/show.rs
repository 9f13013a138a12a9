//! `tidegate config`: the effective configuration.

use std::error::Error;
use std::path::{self, Path, PathBuf};

use tidegate_config::{LogTarget, Settings};

use crate::cli::ConfigArgs;
use crate::output::print;

/// Prints the settings of `run` with the same flags and environment.
pub(crate) fn effective(args: &ConfigArgs) -> Result<(), Box<dyn Error>> {
    let mut settings = match args.config.named() {
        Some(file) => load(&file)?,
        None => Settings::for_directory(PathBuf::from(".")),
    };
    args.overrides.apply(&mut settings)?;
    print(&settings.to_toml())?;
    Ok(())
}

/// Loads a file and makes its paths absolute: the output may be saved in another directory, to
/// which relative paths would be relative then.
fn load(file: &Path) -> Result<Settings, Box<dyn Error>> {
    let mut settings = Settings::load(file)?;
    for site in &mut settings.sites {
        let mounts = site.mounts.iter_mut().map(|mount| &mut mount.root);
        for root in site.root.iter_mut().chain(mounts) {
            *root = path::absolute(&*root)?;
        }
    }
    let logs = settings.sites.iter_mut().map(|site| &mut site.access_log);
    for log in logs.chain([&mut settings.access_log]) {
        if let LogTarget::File(file) = &mut log.path {
            *file = path::absolute(&*file)?;
        }
    }
    let certificates = settings.tls.certificates.iter_mut();
    let files = certificates.flat_map(|files| [&mut files.cert, &mut files.key]);
    let others = [&mut settings.tls.client_ca, &mut settings.server.control];
    for file in files.chain(others.into_iter().flatten()) {
        *file = path::absolute(&*file)?;
    }
    Ok(settings)
}
