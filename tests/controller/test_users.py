"""SCRAM users and quotas."""

from __future__ import annotations

import base64

from barnabas.controller.client_quotas import QuotaAlteration
from barnabas.controller.scram_users import ScramUpsertion
from tests.controller.one_node import open_controller


async def test_keys_follow_from_the_salted_password_as_rfc_7677_has_it(tmp_path, loop):
    """The example of the RFC: user `user` with the password `pencil`."""
    import hashlib

    controller = await open_controller(tmp_path)
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    password = hashlib.pbkdf2_hmac("sha256", b"pencil", salt, 4096)
    assert await controller.alter_scram_users([], [ScramUpsertion("user", 1, 4096, salt, password)]) == {
        "user": None
    }
    credential = controller.image.scram_credentials["user", 1]
    assert credential.stored_key == base64.b64decode("WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=")
    assert credential.server_key == base64.b64decode("wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=")
    await controller.close()


async def test_users_and_quotas_outlive_a_restart(tmp_path, loop):
    """Both are in the metadata log."""
    entity = (("client-id", "c"), ("user", None))
    controller = await open_controller(tmp_path)
    await controller.alter_scram_users([], [ScramUpsertion("u", 2, 8192, b"salt", b"password")])
    await controller.alter_client_quotas([QuotaAlteration(entity, [("request_percentage", 0.5)])], hosts=())
    await controller.close()
    controller = await open_controller(tmp_path)
    assert controller.image.scram_credentials["u", 2].iterations == 8192
    assert controller.image.client_quotas == {entity: {"request_percentage": 0.5}}
    await controller.close()
