//! Join tokens: made, and used up once.

use std::time::Duration;

use rustls_pki_types::UnixTime;

use super::Authority;
use super::AuthorityError;
use super::Secret;
use super::is_within;
use super::random;
use crate::ca::access::Caller;
use crate::ca::identity::SpiffeId;
use crate::ca::refusal::Refusal;
use crate::ca::store::StoreError;
use crate::ca::store::audit::Event;
use crate::ca::store::state::UsedToken;
use crate::ca::store::state::hex;
use crate::ca::token::Claims;
use crate::limits::LEAF_LIFE_MIN;
use crate::limits::REFUSALS_KEPT;
use crate::limits::TOKEN_LIFE_MAX;
use crate::limits::USED_TOKENS_MAX;

impl Authority {
    /// Makes a token that proves `name` once, within `life`.
    ///
    /// # Errors
    /// When the name is of another domain, the life is out of bounds, or it cannot be audited.
    pub fn token(
        &mut self,
        now: UnixTime,
        name: &SpiffeId,
        life: Duration,
        actor: &str,
    ) -> Result<Secret, AuthorityError> {
        let seconds = now.as_secs();
        let _lock = self.enter(seconds)?;
        let checked = is_within(name, self.domain()).and_then(|()| check_life(life));
        if let Err(refusal) = checked {
            return Err(self.refuse(seconds, actor, &name.to_string(), refusal));
        }
        let claims = Claims {
            id: hex(&random::<16>()?),
            name: name.clone(),
            until: seconds + life.as_secs(),
        };
        let token = self.loaded.tokens.sign(&claims);
        let token = token.map_err(|error| self.store.corrupt("tokens.key", &error))?;
        self.audit_token(seconds, actor, "made", &claims)?;
        Ok(Secret::new(token))
    }

    /// Takes a token, once.
    ///
    /// # Errors
    /// When it is refused, which is audited, or it cannot be noted that it was used.
    pub fn redeem(
        &mut self,
        now: UnixTime,
        token: &str,
        actor: &str,
    ) -> Result<Caller, AuthorityError> {
        let seconds = now.as_secs();
        let _lock = self.enter(seconds)?;
        let claims = match self.check_token(token, seconds) {
            Ok(claims) => claims,
            Err(refusal) => return Err(self.refuse(seconds, actor, "join", refusal)),
        };
        let mut state = self.store.state().clone();
        let ended = seconds.saturating_sub(REFUSALS_KEPT.as_secs());
        state.used_tokens.retain(|used| used.until >= ended);
        let count = state.used_tokens.len();
        if count >= USED_TOKENS_MAX {
            let what = "used join tokens";
            return Err(StoreError::Full { what, count }.into());
        }
        state.used_tokens.push(UsedToken {
            id: claims.id.clone(),
            until: claims.until,
        });
        self.audit_token(seconds, actor, "used", &claims)?;
        self.commit(seconds, state)?;
        Ok(Caller::Token {
            id: claims.id,
            identity: claims.name,
        })
    }

    fn check_token(&self, token: &str, now: u64) -> Result<Claims, Refusal> {
        let claims = self.loaded.tokens.check(token, now)?;
        is_within(&claims.name, self.domain())?;
        let mut used = self.store.state().used_tokens.iter();
        if used.any(|used| used.id == claims.id) {
            return Err(Refusal::TokenUsed);
        }
        Ok(claims)
    }

    fn audit_token(
        &mut self,
        now: u64,
        actor: &str,
        what: &'static str,
        claims: &Claims,
    ) -> Result<(), AuthorityError> {
        let name = claims.name.to_string();
        let event = Event::Token {
            what,
            id: &claims.id,
            name: &name,
        };
        Ok(self.store.audit(now, actor, &event)?)
    }
}

fn check_life(life: Duration) -> Result<(), Refusal> {
    if (LEAF_LIFE_MIN..=TOKEN_LIFE_MAX).contains(&life) {
        return Ok(());
    }
    Err(Refusal::Life {
        seconds: life.as_secs(),
        min: LEAF_LIFE_MIN.as_secs(),
        max: TOKEN_LIFE_MAX.as_secs(),
    })
}
