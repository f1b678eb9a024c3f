//! Walk: a request that nobody has sent, on its way through the stages.
//!
//! For: one story a request. May touch: a snapshot, the stages; whoever knows about a credential, where the caller wants that.
//! Promises: what decides is what decides in service: only who is asked over the network, and what was spent before, is left out;
//! where a credential cannot be judged without asking, it says so and nothing more. Read next: `../stages/mod.rs`.

use std::sync::Arc;

use common::code::Code;
use http::header::LOCATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::request::{Door, Request};
use super::story::{Field, Step, Story, UNDECIDED};
use super::{send, tell, words};
use crate::base::head::Head;
use crate::base::refusal::Refusal;
use crate::base::reply::Reply;
use crate::config::checked::{Listener, ListenerKind};
use crate::snapshot::Snapshot;
use crate::stages::admission::sanity;
use crate::stages::auth::Identity;
use crate::stages::auth::authenticate::{self, Scheme};
use crate::stages::auth::rehearse::{self, Asks, Found, Sender};
use crate::stages::context::{Context, Shadowed};
use crate::stages::egress::own;
use crate::stages::plan::Route;
use crate::stages::verdict::Verdict;
use crate::stages::{self, Admitted, Entered, dispatch};

/// How a walk ends.
enum End {
    Sent(send::Sending),
    /// An answer of the gateway's own, with whatever it says on each of them.
    Answer(Reply),
    /// The same without.
    Bare(Reply),
    /// Why nobody can say.
    Undecided(String),
}

struct Walk<'a> {
    snapshot: &'a Snapshot,
    request: &'a Request,
    head: Head<'a>,
    context: Context,
    steps: Vec<Step>,
}

/// Tells what would become of a request. It is taken to come from `sender`; without one, from whoever its credentials speak of.
/// With `fetch`, who must be asked about them is asked.
pub(crate) async fn walk(snapshot: &Snapshot, request: &Request, sender: Option<&Sender>, fetch: bool) -> Story {
    let context = Context::new();
    let mut walk = Walk { snapshot, request, head: request.head(), context, steps: Vec::new() };
    let end = walk.go(sender, fetch).await;
    walk.close(end)
}

impl Walk<'_> {
    async fn go(&mut self, sender: Option<&Sender>, fetch: bool) -> Result<End, Refusal> {
        let (head, config, plan) = (self.head, &self.snapshot.config, &self.snapshot.plan);
        self.says("door", door(self.request, &config.listeners));
        if let Door::Redirect(port) = self.request.door {
            return self.sent_to_https(port);
        }
        let target = sanity::check(&head, &plan.limits);
        let says = match &target {
            Ok(target) => tell::head(&head, target),
            Err(refusal) => vec![tell::refused(refusal)],
        };
        self.says("head", says);
        let target = target?;
        let entered = stages::enter(&head, plan, &mut self.context);
        let refusal = entered.as_ref().err();
        if let Some(says) = tell::route(config, &self.context, &head, &target, refusal) {
            self.says("route", says);
        }
        self.says("admission", tell::admission(plan, &self.context, &head, refusal));
        let (route, target) = match entered? {
            Entered::Answered(reply) => return Ok(End::Answer(reply)),
            Entered::Routed { route, target, .. } => (route, target),
        };
        let identified = match self.identify(&route, sender, fetch).await {
            Ok(identified) => identified,
            Err(why) => return Ok(End::Undecided(why)),
        };
        let permit = stages::permitted(identified, &head, &target, &route, &mut self.context);
        let caller = self.context.identity.as_ref().map(|caller| tell::caller(caller, &route)).unwrap_or_default();
        let shadow = self.context.shadow.iter().map(|shadow| format!("only watched: {}", shadow.code.name()));
        let says = caller.into_iter().chain(shadow).chain(permit.as_ref().err().map(tell::refused)).collect();
        self.says("auth", says);
        permit?;
        self.says("budget", tell::budget(config, &self.context, &route));
        match stages::conclude(&head, target, &route, &mut self.context) {
            Admitted::Answer(reply) => {
                self.says("dispatch", vec!["answered here; no upstream is asked".to_owned()]);
                Ok(End::Answer(reply))
            }
            Admitted::Forward(path) => {
                let sending = send::send(&head, &route, &mut self.context, path);
                self.says("dispatch", sending.says.clone());
                self.says("egress", send::answer(&head, &route, plan));
                Ok(End::Sent(sending))
            }
        }
    }

    /// Adds to a step.
    fn says(&mut self, step: &'static str, says: Vec<String>) {
        match self.steps.last_mut().filter(|last| last.step == step) {
            Some(last) => last.says.extend(says),
            None if says.is_empty() => {}
            None => self.steps.push(Step { step, says }),
        }
    }

    /// Where a plain listener sends everybody.
    fn sent_to_https(&mut self, port: u16) -> Result<End, Refusal> {
        let reply = dispatch::answer::to_https(self.head.host(), &self.request.target, port)?;
        self.context.verdict = Verdict::Redirected;
        Ok(End::Bare(reply))
    }

    /// Who has sent it.
    ///
    /// # Errors
    /// Why nobody here can say.
    async fn identify(
        &mut self,
        route: &Route,
        sender: Option<&Sender>,
        fetch: bool,
    ) -> Result<Result<Option<Arc<Identity>>, Refusal>, String> {
        if let Some(sender) = sender {
            self.says("auth", vec!["the caller is taken for granted; no credential is looked at".to_owned()]);
            return Ok(rehearse::assume(route, sender));
        }
        let looks = rehearse::look(&self.head, route);
        self.says("auth", tell::looks(&looks));
        if let Some(look) = looks.iter().find(|look| look.found == Found::Credential) {
            let name = &look.scheme.name;
            match look.asks {
                Asks::Nobody => {}
                Asks::Store => return Err(format!("{name} has its keys in Redis, which is not asked here")),
                Asks::Issuer if !fetch => return Err(format!("{name} has to fetch its keys first (--fetch)")),
                Asks::Service if !fetch => return Err(format!("{name} has to ask somebody (--fetch)")),
                Asks::Issuer | Asks::Service => self.fetch_keys(look.scheme).await,
            }
        }
        let Some(client) = self.context.client else { return Ok(Err(Refusal::new(Code::InternalError))) };
        let (head, plan, now) = (self.head, &self.snapshot.plan, self.context.now);
        let tried = &mut self.context.auth_tried;
        Ok(authenticate::identify(&head, client, route, &plan.revocations, now, tried).await)
    }

    /// Fetches the keys of a scheme that has none yet.
    async fn fetch_keys(&mut self, scheme: &Scheme) {
        let Some(keys) = scheme.key_store().filter(|keys| !keys.is_ready()) else { return };
        let outcome = if keys.fetch_now().await { "were fetched" } else { "could not be fetched" };
        self.says("auth", vec![format!("{}: its keys {outcome}", scheme.name)]);
    }

    fn close(mut self, end: Result<End, Refusal>) -> Story {
        let mut story = self.begin_story();
        match end {
            Ok(End::Sent(sending)) => {
                (story.to, story.target) = (sending.to, Some(sending.target));
                (story.headers, story.sent) = (sending.told, sending.sent);
            }
            Ok(End::Answer(reply)) => self.answered(&reply, true, &mut story),
            Ok(End::Bare(reply)) => self.answered(&reply, false, &mut story),
            Ok(End::Undecided(why)) => (story.outcome, story.detail) = (UNDECIDED, Some(why)),
            Err(refusal) => {
                self.context.note_refusal(&refusal);
                let path = String::from_utf8_lossy(self.head.path);
                let reply = own::refused(&refusal, self.head.headers, &path, &self.context);
                self.answered(&reply, true, &mut story);
                story.detail = (!refusal.detail.is_empty()).then(|| refusal.detail.to_string());
            }
        }
        let verdict = &self.context.verdict;
        if story.outcome != UNDECIDED {
            story.outcome = verdict.outcome();
            self.says("finish", vec![send::log(self.context.route.as_deref(), story.outcome)]);
        }
        let verdict = &self.context.verdict;
        story.code = verdict.code().map(Code::name);
        story.policy = verdict.policy().map(|policy| policy.to_string());
        story.steps = self.steps;
        story
    }

    /// What is known however it ends.
    fn begin_story(&self) -> Story {
        let context = &self.context;
        let shadowed =
            |shadowed: &Shadowed| format!("{}:{}", shadowed.policy.as_deref().unwrap_or("-"), shadowed.code.name());
        Story {
            method: self.request.method.to_string(),
            host: self.head.host().map(str::to_owned),
            path: String::from_utf8_lossy(self.head.path).into_owned(),
            client: context.client_ip(),
            outcome: context.verdict.outcome(),
            status: None,
            code: None,
            detail: None,
            route: context.route.as_ref().map(|route| route.id.to_string()),
            policy: None,
            auth_tried: context.auth_tried.iter().map(ToString::to_string).collect(),
            shadow: context.shadow.iter().map(shadowed).collect(),
            subject: context.identity.as_ref().map(|identity| identity.subject.to_string()),
            to: Vec::new(),
            target: None,
            headers: Vec::new(),
            steps: Vec::new(),
            sent: HeaderMap::new(),
        }
    }

    /// Takes an answer of the gateway's own into the story. `dressed` is whether it says what all of them say.
    fn answered(&mut self, reply: &Reply, dressed: bool, story: &mut Story) {
        let mut fields = HeaderMap::new();
        for (name, value) in &reply.headers {
            fields.append(name.clone(), value.clone());
        }
        if dressed {
            own::tell(&self.head, &self.snapshot.plan, &self.context, &mut fields);
        }
        let told = |(name, value): (&HeaderName, &HeaderValue)| Field {
            name: name.to_string(),
            value: Some(words::text(value.as_bytes())),
        };
        story.headers = fields.iter().map(told).collect();
        let location = fields.get(LOCATION).and_then(|location| location.to_str().ok());
        let location = location.map(|location| format!(" to {location}")).unwrap_or_default();
        self.says("egress", vec![format!("{}{location}", reply.status)]);
        story.status = Some(reply.status);
        story.sent = fields;
    }
}

/// By which kind of listener it comes in, and whether there is one of that kind.
fn door(request: &Request, listeners: &[Listener]) -> Vec<String> {
    let by = match request.door {
        Door::Tls => "TLS",
        Door::Plain => "plain HTTP",
        Door::Redirect(_) => "plain HTTP, which is sent to https",
    };
    let host = request.head().host().unwrap_or("(no host)");
    let mut says = vec![format!("{} {host} from {} by {by}", request.method, request.from)];
    let is_tls = |listener: &Listener| matches!(listener.kind, ListenerKind::Tls(_));
    if !listeners.iter().any(|listener| is_tls(listener) == (request.door == Door::Tls)) {
        says.push("no listener takes that; what follows is how it would go on if one did".to_owned());
    }
    says
}
