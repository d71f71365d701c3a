//! The two files that grow: the index of leaves and the audit log.

use std::io;

use super::AUDIT;
use super::ISSUED;
use super::ISSUED_NEW;
use super::STATE;
use super::Store;
use super::StoreError;
use super::audit;
use super::audit::Event;
use super::failed;
use super::issued;
use super::issued::Record;
use crate::ca::refusal::Refusal;
use crate::limits::ISSUED_BYTES_COMPACT;

impl Store {
    /// Notes leaves, durably. The caller has entered.
    pub(in crate::ca) fn note_issued(&self, records: &[Record]) -> Result<(), StoreError> {
        let mut lines = String::new();
        for record in records {
            lines += &record
                .line()
                .map_err(|error| self.corrupt(ISSUED, &error))?;
        }
        let is_new = self.append(ISSUED, &lines)?;
        self.done(ISSUED, "sync it", self.disk.sync(ISSUED))?;
        if is_new {
            // A file without a durable name is lost with its content.
            self.done("", "sync it", self.disk.sync_names())?;
        }
        Ok(())
    }

    /// All leaves of the index. The caller has entered.
    pub(in crate::ca) fn issued(&self) -> Result<Vec<Record>, StoreError> {
        Ok(self.read_index()?.records)
    }

    /// Drops what expired before `now` from the index once it has grown large.
    pub(in crate::ca) fn compact(&self, now: u64) -> Result<(), StoreError> {
        let len = self.disk.len(ISSUED);
        if len.map_err(failed(&*self.disk, ISSUED, "read it"))? < ISSUED_BYTES_COMPACT {
            return Ok(());
        }
        let mut lines = String::new();
        for record in self.issued()?.iter().filter(|record| record.until >= now) {
            lines += &record
                .line()
                .map_err(|error| self.corrupt(ISSUED, &error))?;
        }
        self.done(
            ISSUED_NEW,
            "write it",
            self.disk.create(ISSUED_NEW, lines.as_bytes()),
        )?;
        self.done(ISSUED_NEW, "sync it", self.disk.sync(ISSUED_NEW))?;
        self.done(ISSUED, "replace it", self.disk.rename(ISSUED_NEW, ISSUED))?;
        self.done("", "sync it", self.disk.sync_names())
    }

    /// Writes a line of the audit log.
    pub(in crate::ca) fn audit(
        &mut self,
        now: u64,
        actor: &str,
        event: &Event<'_>,
    ) -> Result<(), StoreError> {
        let line = self.budget.line(now, actor, event);
        match line.map_err(|error| self.corrupt(AUDIT, &error))? {
            Some(line) => self.append(AUDIT, &line).map(drop),
            None => Ok(()),
        }
    }

    /// Writes a refusal to the audit log.
    pub(in crate::ca) fn audit_refusal(
        &mut self,
        now: u64,
        actor: &str,
        wanted: &str,
        refusal: &Refusal,
    ) -> Result<(), StoreError> {
        let text = refusal.to_string();
        self.audit(now, actor, &audit::refusal(wanted, refusal, &text))
    }

    fn read_index(&self) -> Result<issued::Read, StoreError> {
        let bytes = match self.disk.read(ISSUED, u64::MAX - 1) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(failed(&*self.disk, ISSUED, "read it"))?,
        };
        issued::read(&bytes).map_err(|reason| self.corrupt(ISSUED, &reason))
    }

    pub(super) fn recover_index(&self) -> Result<(), StoreError> {
        let read = self.read_index()?;
        let newest = read.records.iter().map(|record| record.serial.counter());
        if newest
            .max()
            .is_some_and(|newest| newest >= self.state.serials_until)
        {
            let reason = "it is older than issued.log: serial numbers would be given twice; \
                          restore both from the same backup";
            return Err(self.corrupt(STATE, &reason));
        }
        let len = self.disk.len(ISSUED);
        if len.map_err(failed(&*self.disk, ISSUED, "read it"))? > read.whole {
            self.done(ISSUED, "mend it", self.disk.truncate(ISSUED, read.whole))?;
        }
        Ok(())
    }

    /// Ends a line that was cut, so that the next one stands alone.
    pub(super) fn recover_audit(&self) -> Result<(), StoreError> {
        let is_whole = self.disk.ends_whole(AUDIT);
        if is_whole.map_err(failed(&*self.disk, AUDIT, "read it"))? {
            return Ok(());
        }
        self.append(AUDIT, "\n").map(drop)
    }

    /// Says whether the file was empty or absent before.
    fn append(&self, file: &str, lines: &str) -> Result<bool, StoreError> {
        let len = self.disk.len(file);
        let len = len.map_err(failed(&*self.disk, file, "read it"))?;
        let written = self.disk.append(file, lines.as_bytes());
        if written.is_err() {
            // Half a line would spoil the next one; if this fails too, the next start mends it.
            drop(self.disk.truncate(file, len));
        }
        self.done(file, "write to it", written)?;
        Ok(len == 0)
    }
}
