//! The places where credentials are looked for, in order.

use std::fmt;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::environment::{self, Environment};
use super::error::CredentialsError;
use super::http_client::HttpClient;
use super::keys::Credentials;
use super::provider::Source;
use super::{container, imds, profile, web_identity};

/// What the environment does not say, or says otherwise.
#[derive(Clone, Debug, Default)]
pub struct ChainOptions {
    /// The profile in the shared credentials file. If it is given, only that file is read, as its
    /// author has chosen it; otherwise it is `AWS_PROFILE`, or else `default`.
    pub profile: Option<String>,
    /// The region whose STS is asked if neither `AWS_REGION` nor `AWS_DEFAULT_REGION` is set.
    pub region: Option<String>,
}

/// The usual chain: the environment, a web identity, the shared credentials file, the endpoint of
/// a container, and EC2's instance metadata service. The first that is configured counts: if it
/// fails, the ones behind it are not asked.
pub struct Chain {
    environment: Environment,
    client: HttpClient,
    options: ChainOptions,
}

impl Chain {
    /// Nothing is read or asked before [`Source::load`].
    pub fn new(environment: Environment, client: HttpClient, options: ChainOptions) -> Self {
        Self {
            environment,
            client,
            options,
        }
    }

    async fn first(&self) -> Result<Credentials, CredentialsError> {
        let (environment, client) = (&self.environment, &self.client);
        if let Some(profile) = self.options.profile.as_deref() {
            let found = profile::load(environment, Some(profile)).await?;
            return found.ok_or_else(|| self.not_found());
        }
        if let Some(found) = environment::load(environment)? {
            return Ok(found);
        }
        let region = self.options.region.as_deref();
        if let Some(found) = web_identity::load(environment, client, region).await? {
            return Ok(found);
        }
        if let Some(found) = profile::load(environment, None).await? {
            return Ok(found);
        }
        if let Some(found) = container::load(environment, client).await? {
            return Ok(found);
        }
        imds::load(environment, client)
            .await?
            .ok_or_else(|| self.not_found())
    }

    fn not_found(&self) -> CredentialsError {
        let file = profile::path(&self.environment);
        let file = file.map_or_else(
            || "a home directory".into(),
            |path| path.display().to_string(),
        );
        CredentialsError::NotFound { file }
    }
}

impl Source for Chain {
    fn load(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        self.first().boxed()
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Answer, Received, Server, client, environment, run};
    use super::*;

    /// Every service at once; the access key is the name of the one that was asked.
    fn services(request: &Received) -> Answer {
        let json = |key: &str| {
            Answer::ok(&format!(
                r#"{{"AccessKeyId":"{key}","SecretAccessKey":"S","Token":"T"}}"#
            ))
        };
        match request.target.as_str() {
            "/" => Answer::ok(
                "<Credentials><AccessKeyId>STS</AccessKeyId><SecretAccessKey>S</SecretAccessKey>\
                 <SessionToken>T</SessionToken><Expiration>2013-05-24T00:00:00Z</Expiration>\
                 </Credentials>",
            ),
            "/container" => json("CONTAINER"),
            "/latest/api/token" => Answer::ok("token"),
            "/latest/meta-data/iam/security-credentials/" => Answer::ok("role"),
            _ => json("IMDS"),
        }
    }

    fn load(variables: &[(&str, &str)], profile: Option<&str>) -> Result<String, CredentialsError> {
        let options = ChainOptions {
            profile: profile.map(str::to_owned),
            region: None,
        };
        let environment = environment(variables);
        let keys = run(async { Chain::new(environment, client(), options).load().await })?;
        Ok(keys.access_key().to_owned())
    }

    #[test]
    fn the_first_that_is_configured_counts() {
        let server = Server::start(services);
        let files = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = files.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let token = file("token", "token");
        let shared = file(
            "credentials",
            "[default]\naws_access_key_id=FILE\naws_secret_access_key=S\n\
             [other]\naws_access_key_id=OTHER\naws_secret_access_key=S\n",
        );
        let container = format!("{}/container", server.endpoint());
        let all = [
            ("AWS_ACCESS_KEY_ID", "ENVIRONMENT"),
            ("AWS_SECRET_ACCESS_KEY", "S"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
            ("AWS_SHARED_CREDENTIALS_FILE", &shared),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container),
            ("AWS_ROLE_ARN", "arn"),
            ("AWS_ENDPOINT_URL_STS", server.endpoint()),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.endpoint()),
        ];
        for (from, expected) in [
            (0, "ENVIRONMENT"),
            (2, "STS"),
            (3, "FILE"),
            (4, "CONTAINER"),
            (5, "IMDS"),
        ] {
            assert_eq!(load(&all[from..], None).unwrap(), expected);
        }
        assert_eq!(load(&all, Some("other")).unwrap(), "OTHER");
        // One that is configured and fails is not passed over.
        assert!(load(&all[1..], None).is_err());
        assert!(load(&all, Some("missing")).is_err());
    }

    #[test]
    fn without_any_the_error_says_where_it_looked() {
        let variables = [("HOME", "/none"), ("AWS_EC2_METADATA_DISABLED", "true")];
        let error = load(&variables, None).unwrap_err();
        assert_eq!(
            error,
            CredentialsError::NotFound {
                file: "/none/.aws/credentials".to_owned()
            }
        );
    }
}
