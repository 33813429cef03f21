//! Why a test could not be carried out, or failed.

use std::fmt::Display;

/// The result of everything in here. The message is for the person who reads the test's output.
pub type Result<T> = std::result::Result<T, String>;

/// Says what was tried when something fails.
pub trait Context<T> {
    /// Puts `what` in front of the cause.
    fn context(self, what: impl Display) -> Result<T>;
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Display) -> Result<T> {
        self.map_err(|error| format!("{what}: {error}"))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: impl Display) -> Result<T> {
        self.ok_or_else(|| format!("{what}: nothing there"))
    }
}
