//! Gate: budgets that a report has to keep, so that a result which misses one is never published. Pure: a report
//! in, a line for each budget out.

mod rule;

use crate::report::Report;
use crate::report::model::Standing;
pub use rule::Rule;

/// The budgets of a build.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Budget {
    /// What must not be.
    pub rules: Vec<Rule>,
    /// The stored report that growth is measured against; `None` without one.
    pub baseline: Option<Box<Report>>,
}

impl Budget {
    /// How the report stands with each rule, in their order. A figure that the report does not have keeps none.
    pub fn check(&self, report: &Report) -> Vec<Standing> {
        let standing = |rule: &Rule| {
            let (kept, line) = rule.check(report, self.baseline.as_deref());
            Standing { rule: rule.text.clone(), kept, line }
        };
        self.rules.iter().map(standing).collect()
    }

    /// What they come to: each rule, and of the stored report what it is measured against.
    pub fn words(&self) -> Vec<String> {
        let before = |rule: &Rule| self.baseline.as_deref().and_then(|baseline| rule.before(baseline));
        self.rules.iter().map(|rule| format!("{} {:?}", rule.text, before(rule))).collect()
    }
}
