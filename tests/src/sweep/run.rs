//! A whole sweep: the template, a clean run of each role, and the cases.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::case::{Case, Phase};
use super::check::violations;
use super::options::Options;
use super::plan::{Plan, Profile};
use super::report::{Outcome, Report};
use super::strace::{Span, Traced};
use super::template::Template;
use super::way::Way;
use crate::harness::{HarnessError, Programs, Result, Role, obstacle};

/// Runs the sweep of the options.
///
/// # Errors
/// If the harness itself cannot work. A broken promise is in the report instead.
pub fn run(options: &Options, programs: Programs) -> Result<Report> {
    check_machine()?;
    let only = options.only_case()?;
    let template = Template::make(programs)?;
    if let Some(case) = only {
        let begun = Instant::now();
        let outcome = broken(&template, &case, true);
        return Ok(Report {
            outcomes: vec![outcome],
            possible: 1,
            left_out: 0,
            took: begun.elapsed(),
        });
    }
    let (profile, clean) = profile(&template, options)?;
    let budget = Duration::from_secs(u64::from(options.minutes) * 60);
    let affordable = budget.as_secs_f64() * f64::from(options.jobs) / clean.as_secs_f64();
    let plan = Plan::choose(&profile, options, whole(affordable));
    eprintln!(
        "{} cases of {} occurrences, every {} of each call; a clean run takes {:.1} s",
        plan.cases.len(),
        plan.possible,
        plan.step,
        clean.as_secs_f64()
    );
    let budget = if options.full { Duration::MAX } else { budget };
    let Plan {
        cases, possible, ..
    } = plan;
    Ok(execute(&template, cases, possible, options.jobs, budget))
}

fn whole(number: f64) -> u64 {
    // Far below the limit at which a f64 is no longer exact, and never negative.
    format!("{number:.0}").parse().unwrap_or(1)
}

fn check_machine() -> Result<()> {
    let usage = |text: String| Err(HarnessError::Usage(text));
    if let Some(why) = obstacle(Path::new("/")) {
        return usage(format!("a sweep needs root: {why}"));
    }
    match Command::new("strace").arg("--version").output() {
        Ok(output) if output.status.success() => Ok(()),
        _ => usage("strace is not installed".to_owned()),
    }
}

/// Calls of each role in a clean run, which must keep every promise too, and the longest such run.
fn profile(template: &Template, options: &Options) -> Result<(Profile, Duration)> {
    let mut found = Profile::new();
    let mut longest = Duration::ZERO;
    let all = Role::ALL
        .into_iter()
        .flat_map(|role| Phase::ALL.map(|phase| (role, phase)));
    for (role, phase) in all {
        let is_wanted = options.role.is_none_or(|only| only == role)
            && options.phase.is_none_or(|only| only == phase);
        if !is_wanted {
            continue;
        }
        let begun = Instant::now();
        let mut way = Way::new(template)?;
        let traced = begin(&mut way, role, phase, None)?;
        way.complete(role)?;
        let wrong = violations(&mut way, template, None)?;
        if !wrong.is_empty() {
            let text = format!("without any fault: {}", wrong.join("; "));
            return Err(HarnessError::Wrong(text));
        }
        let configuration = way.world.configuration(role.host());
        let calls: BTreeMap<String, Span> = traced.calls(&configuration)?;
        longest = longest.max(begun.elapsed());
        found.insert((role, phase), calls);
    }
    Ok((found, longest))
}

/// Starts all roles, one of them under `strace`, and places the requests.
fn begin(way: &mut Way<'_>, role: Role, phase: Phase, case: Option<&Case>) -> Result<Traced> {
    let mut roles = Role::ALL.to_vec();
    roles.retain(|any| *any != role || phase == Phase::Running);
    way.world.start_together(&roles)?;
    if phase == Phase::Start {
        way.ask()?;
        return Traced::begin(&mut way.world, role, phase, case);
    }
    let traced = Traced::begin(&mut way.world, role, phase, case)?;
    way.ask()?;
    Ok(traced)
}

fn broken(template: &Template, case: &Case, shows_logs: bool) -> Outcome {
    let begun = Instant::now();
    let mut outcome = Outcome {
        case: case.clone(),
        is_reached: false,
        has_ended: false,
        violations: Vec::new(),
        took: Duration::ZERO,
    };
    if let Err(error) = attempt(template, case, &mut outcome, shows_logs) {
        outcome.violations.push(error.to_string());
    }
    outcome.took = begun.elapsed();
    outcome
}

fn attempt(
    template: &Template,
    case: &Case,
    outcome: &mut Outcome,
    shows_logs: bool,
) -> Result<()> {
    let mut way = Way::new(template)?;
    let traced = begin(&mut way, case.role, case.phase, Some(case))?;
    let completed = way.complete(case.role);
    let checked = completed.and_then(|()| violations(&mut way, template, Some(case)));
    outcome.has_ended = !way.ends.is_empty();
    outcome.is_reached = outcome.has_ended || !traced.injected().is_empty();
    if shows_logs {
        eprintln!("{}{}", traced.injected().join("\n"), way.world.log_tails());
        for (role, words) in &way.ends {
            eprintln!("--- {} ended: {words}", role.word());
        }
    }
    if traced.is_impossible() {
        outcome.is_reached = false;
        return Ok(());
    }
    outcome.violations = checked?;
    Ok(())
}

/// Runs these cases, `jobs` at a time.
///
/// # Errors
/// If the harness itself cannot work.
pub fn run_cases(programs: Programs, cases: Vec<Case>, jobs: u32) -> Result<Report> {
    check_machine()?;
    let template = Template::make(programs)?;
    let possible = u64::try_from(cases.len()).unwrap_or(u64::MAX);
    Ok(execute(&template, cases, possible, jobs, Duration::MAX))
}

/// Runs the cases, several at a time, until the time is over.
fn execute(
    template: &Template,
    cases: Vec<Case>,
    possible: u64,
    jobs: u32,
    budget: Duration,
) -> Report {
    let begun = Instant::now();
    let waiting = Mutex::new(cases);
    let outcomes = Mutex::new(Vec::new());
    let take = || {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match begun.elapsed() >= budget {
            true => None,
            false => waiting.pop(),
        }
    };
    let keep = |outcome: Outcome| {
        eprint!("{}", outcome.lines());
        let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.push(outcome);
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(case) = take() {
                    keep(broken(template, &case, false));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_default();
    outcomes.sort_by(|one, other| one.case.cmp(&other.case));
    Report {
        outcomes,
        possible,
        left_out: waiting.into_inner().unwrap_or_default().len(),
        took: begun.elapsed(),
    }
}
