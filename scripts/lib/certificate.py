"""A certificate for localhost that is signed by its own key, for two days."""

import subprocess


def make_certificate(directory):
    """Makes cert.pem and key.pem there; gives their paths."""
    files = directory / "cert.pem", directory / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost -out {files[0]} -keyout {files[1]}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return files
