//! Receives into buffers of the loop's pool until told to stop: every stream's, told apart by their slots.

use corio_runtime::op::Receiver;

use crate::streams::TABLE;

pub(crate) static RECV_MULTI: Receiver = Receiver {
    data: |arrivals| TABLE.existing(|streams| streams.received(arrivals)),
    end: |slot, done| TABLE.existing(|streams| streams.multi_ended(slot, &done)),
};
