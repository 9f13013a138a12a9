//! What `doctor` says of privileges.
