//! What a cut may show.

/// What was found after a cut.
#[derive(Debug)]
pub(super) enum Found {
    /// Something is published that the application's disk has forgotten (I2).
    Published(String),
    /// The outbox holds something that the application's disk has forgotten (I2, before it is sent).
    Captured(String),
    /// The outbox has not what it said it had, or cannot be read (I3).
    Outbox(String),
    /// The application's file is damaged, or lacks what its own SQLite promised.
    Application(String),
    /// Something acknowledged is gone (I5).
    Acknowledged(String),
    /// Something stored is gone (I4, I6).
    Stored(String),
    /// Somebody does not go on.
    Stuck(String),
    /// The replica is not the application's database in the end (I8).
    Different(String),
}

impl Found {
    /// The same, and where it was found.
    pub(super) fn at(mut self, place: &str) -> Self {
        let (Self::Published(text)
        | Self::Captured(text)
        | Self::Outbox(text)
        | Self::Application(text)
        | Self::Acknowledged(text)
        | Self::Stored(text)
        | Self::Stuck(text)
        | Self::Different(text)) = &mut self;
        text.push_str(place);
        self
    }
}
