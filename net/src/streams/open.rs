//! New streams, with their handles.

use corio_runtime::fd::Fd;

use super::{addrs::Addrs, reader::StreamReader, slot::Origin, table::Streams, writer::StreamWriter};

impl Streams {
    /// A new stream on `fd`. `ahead` arms its receive at once. An accepted stream's slot also serves its handler.
    pub(crate) fn open(
        &self,
        fd: Fd,
        addrs: Addrs,
        limit: usize,
        ahead: bool,
        origin: Origin,
    ) -> (StreamReader, StreamWriter) {
        let key = self.insert(fd, limit, |common, slot| {
            (slot.ahead, slot.listener) = (ahead, origin.listener());
            slot.handler = origin != Origin::Connected;
            slot.arm_receive(common);
        });
        (StreamReader::new(key), StreamWriter::new(key, addrs))
    }

    /// The reading end of a pipe; of a socket if `pipe` is false.
    pub(crate) fn open_read_pipe(&self, fd: Fd, limit: usize, pipe: bool) -> StreamReader {
        let key = self.insert(fd, limit, |_, slot| {
            (slot.pipe, slot.one_way) = (pipe, true);
            slot.writer = false;
        });
        StreamReader::new(key)
    }

    /// The writing end of a pipe; of a socket if `pipe` is false.
    pub(crate) fn open_write_pipe(&self, fd: Fd, pipe: bool) -> StreamWriter {
        let key = self.insert(fd, 0, |_, slot| {
            (slot.pipe, slot.one_way) = (pipe, true);
            slot.reader = false;
            slot.receive.discarded = true;
        });
        StreamWriter::new(key, Addrs::None)
    }
}
