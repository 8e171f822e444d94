//! Compare: the answers of any two images, and nothing else.

use anyhow::{Result, anyhow, bail};

use super::case::Case;
use super::findings::{self, Rounds};
use super::prove::{self, Proof};
use super::{Built, Session, subject};
use crate::engine;
use crate::exit::{self, Exit};
use crate::image::ImageConfig;
use crate::report::{self, Builder, VerdictKind, model};
use crate::run::kit;
use crate::verify;

/// Runs `slim verify`: the plan's image is the measure, `other` is to answer the same. Nothing gets a name.
pub async fn compare(session: &Session<'_>, other: &str) -> Built {
    let mut builder = Builder::new(report::Options::default(), super::redactor(session.plan));
    let ended = stages(session, other, &mut builder).await;
    builder.phases(session.monitor.phases());
    builder.warnings(session.monitor.warnings());
    let (finished, error) = match ended {
        Ok((kind, why, exit)) => (builder.finish(kind, &why, exit), None),
        Err(error) => {
            let exit = engine::exit_of(&error);
            (builder.finish(VerdictKind::Failed, &exit::causes(&error), exit), Some(error))
        }
    };
    Built { finished, published: Vec::new(), recording: None, made: None, error, current: None }
}

async fn stages(session: &Session<'_>, other: &str, report: &mut Builder) -> Result<(VerdictKind, String, Exit)> {
    let subject = subject::open(session, report).await?;
    let Some(info) = session.engine.image(other).await? else {
        bail!("the engine has no image {other}");
    };
    if (&info.os, &info.arch) != (&subject.info.os, &subject.info.arch) {
        return Err(anyhow!("{other} is for {}/{}, not for {}/{}", info.os, info.arch, subject.info.os, subject.info.arch));
    }
    let config = ImageConfig::parse(&session.engine.image_config(&info.id).await?)?;
    session.learn_env(&config.env(), report);
    let helper = super::helper(session, &subject).await?;
    // For a relay, where one is needed.
    kit::install(session.engine, &subject.info.id, &helper.volume).await?;
    session.phase("baseline", subject.reference.familiar());
    let way = (None, session.plan.run.clone(), subject.probes.clone());
    let case = Case::plain(session, &subject, &helper, way).await?;
    session.done("baseline", report::figures::counted(case.baseline.first.len() as u64, "answer", "answers"));
    session.phase("verify", other);
    let setting = case.setting(session, &subject, &helper);
    let verified = verify::verify(&setting, &info.id, &case.baseline).await?;
    let check = prove::judge(session, &subject, &setting, verified, &case.baseline).await?;
    let proof = Proof { checks: vec![check], missed: Vec::new() };
    findings::tell(session, report, std::slice::from_ref(&case), &proof, Rounds::of_a_comparison());
    report.result(model::Image {
        reference: other.to_owned(),
        tags: info.tags.clone(),
        digest: info.id.clone(),
        size_bytes: info.size,
        layers: info.layers as u64,
        ..model::Image::default()
    });
    session.leaving.gone().await?;
    Ok(super::publish::judge(Some(&proof)))
}
