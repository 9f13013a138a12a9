//! Credentials that are kept until shortly before they expire.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::OwnedMutexGuard;

use super::error::CredentialsError;
use super::keys::Credentials;

/// How long before their expiry credentials are replaced. EC2 has new ones by then.
const REFRESH_AHEAD: Duration = Duration::from_mins(5);
/// How long a source is left alone after it failed, or gave credentials that expire soon.
const PAUSE: Duration = Duration::from_secs(5);

/// Where credentials come from.
pub trait Source: Send + Sync + 'static {
    /// Loads them anew. It is called on a tokio runtime, not twice at the same time by one
    /// [`Provider`], and takes bounded time. A dropped future abandons the load.
    fn load(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>>;
}

/// The credentials of an origin, shared by all who ask. Clones share them, too.
#[derive(Clone)]
pub struct Provider(Arc<Shared>);

struct Shared {
    source: Box<dyn Source>,
    clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
    state: Mutex<State>,
    /// Held by the one that asks the source.
    refresh: Arc<tokio::sync::Mutex<()>>,
}

/// Without panics while it is locked, so that a poisoned lock cannot be.
#[derive(Default)]
struct State {
    current: Option<Arc<Credentials>>,
    /// When the source was last asked, and its error.
    last: Option<(SystemTime, Option<CredentialsError>)>,
}

impl Provider {
    /// Asks `source` when credentials are first needed, and again five minutes before they expire.
    pub fn new(source: impl Source) -> Self {
        Self::with_clock(source, SystemTime::now)
    }

    /// Always these credentials.
    pub fn fixed(credentials: Credentials) -> Self {
        Self::new(Fixed(Arc::new(credentials)))
    }

    fn with_clock(
        source: impl Source,
        clock: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            source: Box::new(source),
            clock: Box::new(clock),
            state: Mutex::default(),
            refresh: Arc::default(),
        }))
    }

    /// Credentials that are valid now. It waits for the source only if there are none; those that
    /// expire within five minutes are returned at once, and replaced by a task of their own. If
    /// that fails they are used on while they are valid.
    ///
    /// An error is the source's, and is kept for five seconds. It must be called on a tokio
    /// runtime. If the future is dropped while it asks the source, another that waits asks anew.
    pub async fn credentials(&self) -> Result<Arc<Credentials>, CredentialsError> {
        if let Some(current) = self.0.valid() {
            self.refresh_if_due(&current);
            return Ok(current);
        }
        let asking = self.0.refresh.clone().lock_owned().await;
        // Another may have asked in the meantime.
        if let Some(current) = self.0.valid() {
            return Ok(current);
        }
        match self.0.recent_outcome() {
            Some(outcome) => outcome,
            None => self.0.ask(asking).await,
        }
    }

    /// Starts a refresh if it is time, and none is under way.
    fn refresh_if_due(&self, current: &Credentials) {
        if !self.0.expires_soon(current) || self.0.is_pausing() {
            return;
        }
        let Ok(asking) = self.0.refresh.clone().try_lock_owned() else {
            return;
        };
        // The one before may have ended between the two checks.
        if self.0.is_pausing() {
            return;
        }
        let shared = self.0.clone();
        tokio::spawn(async move {
            if let Err(error) = shared.ask(asking).await {
                tracing::warn!(%error, "credentials were not refreshed; the old ones are used on");
            }
        });
    }
}

impl Shared {
    /// The credentials that have not expired.
    fn valid(&self) -> Option<Arc<Credentials>> {
        let now = (self.clock)();
        let current = self.state().current.clone();
        current.filter(|current| current.expires().is_none_or(|expires| now < expires))
    }

    fn expires_soon(&self, credentials: &Credentials) -> bool {
        let soon = (self.clock)() + REFRESH_AHEAD;
        credentials.expires().is_some_and(|expires| expires <= soon)
    }

    fn is_pausing(&self) -> bool {
        self.state()
            .last
            .as_ref()
            .is_some_and(|(asked, _)| self.is_recent(*asked))
    }

    /// What the source said when it was asked a moment ago, even if that has expired: asking again
    /// would not help.
    fn recent_outcome(&self) -> Option<Result<Arc<Credentials>, CredentialsError>> {
        let state = self.state();
        let (_, error) = state
            .last
            .as_ref()
            .filter(|(asked, _)| self.is_recent(*asked))?;
        match error {
            Some(error) => Some(Err(error.clone())),
            None => state.current.clone().map(Ok),
        }
    }

    /// A time in the future is not: the clock was set back.
    fn is_recent(&self, time: SystemTime) -> bool {
        (self.clock)()
            .duration_since(time)
            .is_ok_and(|since| since < PAUSE)
    }

    /// Asks the source, and keeps what it says. The lock is held until then.
    async fn ask(&self, asking: OwnedMutexGuard<()>) -> Result<Arc<Credentials>, CredentialsError> {
        let loaded = self.source.load().await.map(Arc::new);
        let asked = (self.clock)();
        let mut state = self.state();
        state.last = Some((asked, loaded.as_ref().err().cloned()));
        if let Ok(credentials) = &loaded {
            state.current = Some(credentials.clone());
        }
        drop(state);
        drop(asking);
        loaded
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.0.state().current.clone();
        f.debug_struct("Provider")
            .field("current", &current)
            .finish_non_exhaustive()
    }
}

/// Credentials that were configured.
struct Fixed(Arc<Credentials>);

impl Source for Fixed {
    fn load(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        let keys = &self.0;
        let copy = Credentials::new(
            keys.access_key().to_owned(),
            keys.secret_key().to_owned(),
            keys.session_token().map(str::to_owned),
            keys.expires(),
        );
        std::future::ready(Ok(copy)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;
    use tokio::task::yield_now;

    use super::super::testing::{example_time, run};
    use super::*;

    /// A source and a clock that do as the test says.
    #[derive(Default)]
    struct Script {
        /// Seconds since the example's time.
        now: AtomicU64,
        loads: AtomicUsize,
        /// How long the next credentials are valid, in seconds; zero is an error.
        valid: AtomicU64,
        /// If there is one, a load takes a permit.
        gate: Option<Semaphore>,
    }

    impl Script {
        fn new(valid: u64, gate: Option<Semaphore>) -> Arc<Self> {
            Arc::new(Self {
                valid: valid.into(),
                gate,
                ..Self::default()
            })
        }

        fn provider(self: &Arc<Self>) -> Provider {
            let script = self.clone();
            Provider::with_clock(Scripted(self.clone()), move || script.now())
        }

        fn now(&self) -> SystemTime {
            example_time() + Duration::from_secs(self.now.load(Ordering::SeqCst))
        }

        fn at(&self, seconds: u64, valid: u64) {
            self.now.store(seconds, Ordering::SeqCst);
            self.valid.store(valid, Ordering::SeqCst);
        }

        fn loads(&self) -> usize {
            self.loads.load(Ordering::SeqCst)
        }
    }

    struct Scripted(Arc<Script>);

    impl Source for Scripted {
        fn load(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
            async {
                let script = &self.0;
                let load = script.loads.fetch_add(1, Ordering::SeqCst) + 1;
                if let Some(gate) = &script.gate {
                    gate.acquire().await.unwrap().forget();
                }
                match script.valid.load(Ordering::SeqCst) {
                    0 => Err(CredentialsError::NotFound {
                        file: "none".into(),
                    }),
                    valid => {
                        let expires = script.now() + Duration::from_secs(valid);
                        let key = load.to_string();
                        Ok(Credentials::new(key, "S".into(), None, Some(expires)))
                    }
                }
            }
            .boxed()
        }
    }

    /// The number of the load that the credentials are of.
    async fn key_of(provider: &Provider) -> Option<String> {
        let credentials = provider.credentials().await;
        // The runtime has one thread: a refresh that was started gets as far as it can.
        for _ in 0..10 {
            yield_now().await;
        }
        credentials
            .ok()
            .map(|credentials| credentials.access_key().to_owned())
    }

    #[test]
    fn refreshes_ahead_of_expiry_and_uses_the_old_ones_on() {
        let script = Script::new(3600, None);
        let provider = script.provider();
        run(async {
            // When, how long those of a load are valid, whose are returned, loads afterwards.
            for (seconds, valid, key, loads) in [
                (0, 3600, Some("1"), 1),
                (3299, 3600, Some("1"), 1),
                // Due, but it fails; then paused; then it fails again.
                (3300, 0, Some("1"), 2),
                (3304, 0, Some("1"), 2),
                (3305, 0, Some("1"), 3),
                (3598, 0, Some("1"), 4),
                // Expired: the error of a moment ago, then that of a load.
                (3600, 3600, None, 4),
                (3603, 0, None, 5),
                (3608, 3600, Some("6"), 6),
                // Refreshed in the background, which this one does not wait for.
                (7000, 3600, Some("6"), 7),
                (7001, 3600, Some("7"), 7),
                // Credentials that expire soon are not replaced all the time.
                (10400, 60, Some("7"), 8),
                (10401, 60, Some("8"), 8),
                (10404, 60, Some("8"), 8),
                (10405, 3600, Some("8"), 9),
                (10406, 3600, Some("9"), 9),
            ] {
                script.at(seconds, valid);
                assert_eq!(key_of(&provider).await.as_deref(), key, "{seconds}");
                assert_eq!(script.loads(), loads, "{seconds}");
            }
        });
    }

    #[test]
    fn one_load_is_for_all_who_ask() {
        for (valid, key) in [(3600, Some("1".to_owned())), (0, None)] {
            let script = Script::new(valid, Some(Semaphore::new(0)));
            let provider = script.provider();
            run(async {
                let askers = join_all((0..100).map(|_| key_of(&provider)));
                let open = async {
                    yield_now().await;
                    script.gate.as_ref().unwrap().add_permits(1);
                };
                let (keys, ()) = futures_util::future::join(askers, open).await;
                assert!(keys.iter().all(|found| *found == key), "{keys:?}");
            });
            assert_eq!(script.loads(), 1);
        }
    }

    #[test]
    fn a_refresh_in_the_background_is_one_and_holds_nobody_up() {
        let script = Script::new(3600, Some(Semaphore::new(1)));
        let provider = script.provider();
        run(async {
            assert_eq!(key_of(&provider).await.as_deref(), Some("1"));
            script.at(3500, 3600);
            for _ in 0..10 {
                assert_eq!(key_of(&provider).await.as_deref(), Some("1"));
            }
            assert_eq!(script.loads(), 2);
            script.gate.as_ref().unwrap().add_permits(1);
            assert_eq!(key_of(&provider).await.as_deref(), Some("1"));
            assert_eq!(key_of(&provider).await.as_deref(), Some("2"));
        });
    }

    #[test]
    fn a_dropped_future_leaves_the_load_to_the_next() {
        let script = Script::new(3600, Some(Semaphore::new(0)));
        let provider = script.provider();
        run(async {
            let mut dropped = Box::pin(provider.credentials());
            assert!((&mut dropped).now_or_never().is_none());
            drop(dropped);
            script.gate.as_ref().unwrap().add_permits(1);
            assert_eq!(key_of(&provider).await.as_deref(), Some("2"));
        });
    }

    #[test]
    fn fixed_credentials_stay_and_are_not_shown() {
        let keys = Credentials::new("A".into(), "SECRET".into(), Some("TOKEN".into()), None);
        let provider = Provider::fixed(keys);
        run(async {
            let first = provider.credentials().await.unwrap();
            let second = provider.clone().credentials().await.unwrap();
            assert!(Arc::ptr_eq(&first, &second));
            assert_eq!(first.session_token(), Some("TOKEN"));
        });
        let shown = format!("{provider:?}");
        assert!(
            !shown.contains("SECRET") && !shown.contains("TOKEN"),
            "{shown}"
        );
    }
}
