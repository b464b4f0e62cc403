"""One deeply nested payload, typed in three ways: attrs classes, TypedDicts, a `payload_schema`.

arbprov dev examples/create_user.py --tasks examples/create_user.jsonl
"""

from datetime import datetime
from typing import Any

import attrs
from typing_extensions import NotRequired, TypedDict

from arbprov import ProviderApp

app = ProviderApp("users")


# As attrs classes: the handler gets objects, and an editor knows their fields.


@attrs.frozen
class PersonalInfo:
    first_name: str
    last_name: str
    date_of_birth: datetime
    gender: str
    nationality: str


@attrs.frozen
class EmergencyContact:
    name: str
    relationship: str
    phone: str


@attrs.frozen
class ContactInfo:
    email: str
    phone: str
    addresses: list[dict[str, str]]
    emergency_contacts: list[EmergencyContact]


@attrs.frozen
class Notifications:
    email: bool
    sms: bool
    push: bool


@attrs.frozen
class PrivacySettings:
    profile_visibility: str
    data_sharing: bool


@attrs.frozen
class Preferences:
    language: str
    timezone: str
    notifications: Notifications
    privacy_settings: PrivacySettings


@attrs.frozen
class Subscription:
    service: str
    plan: str
    start_date: datetime
    features: list[str]
    end_date: datetime | None = None


@attrs.frozen
class User:
    personal_info: PersonalInfo
    contact_info: ContactInfo
    preferences: Preferences
    subscriptions: list[Subscription]


@attrs.frozen
class Metadata:
    source: str
    created_by: str
    tags: list[str]
    custom_fields: dict[str, Any]


@app.action
def create_user(user: User, metadata: Metadata) -> dict[str, Any]:
    """Create a user, typed as attrs classes."""
    person, contact = user.personal_info, user.contact_info
    return {
        "name": f"{person.first_name} {person.last_name}",
        "born": person.date_of_birth.date(),
        "emergency_contacts": [one.name for one in contact.emergency_contacts],
        "open_subscriptions": [one.service for one in user.subscriptions if one.end_date is None],
        "tags": metadata.tags,
    }


# As TypedDicts: the handler gets dicts, and a type checker knows their keys.


class PersonalInfoDict(TypedDict):
    first_name: str
    last_name: str
    date_of_birth: datetime
    gender: str
    nationality: str


class EmergencyContactDict(TypedDict):
    name: str
    relationship: str
    phone: str


class ContactInfoDict(TypedDict):
    email: str
    phone: str
    addresses: list[dict[str, str]]
    emergency_contacts: list[EmergencyContactDict]


class NotificationsDict(TypedDict):
    email: bool
    sms: bool
    push: bool


class PrivacySettingsDict(TypedDict):
    profile_visibility: str
    data_sharing: bool


class PreferencesDict(TypedDict):
    language: str
    timezone: str
    notifications: NotificationsDict
    privacy_settings: PrivacySettingsDict


class SubscriptionDict(TypedDict):
    service: str
    plan: str
    start_date: datetime
    end_date: NotRequired[datetime | None]
    features: list[str]


class UserDict(TypedDict):
    personal_info: PersonalInfoDict
    contact_info: ContactInfoDict
    preferences: PreferencesDict
    subscriptions: list[SubscriptionDict]


class MetadataDict(TypedDict):
    source: str
    created_by: str
    tags: list[str]
    custom_fields: dict[str, Any]


@app.action
def create_user_from_typed_dicts(user: UserDict, metadata: MetadataDict) -> dict[str, Any]:
    """Create a user, typed as TypedDicts."""
    person, contact = user["personal_info"], user["contact_info"]
    open_ones = [one for one in user["subscriptions"] if one.get("end_date") is None]
    return {
        "name": f"{person['first_name']} {person['last_name']}",
        "born": person["date_of_birth"].date(),
        "emergency_contacts": [one["name"] for one in contact["emergency_contacts"]],
        "open_subscriptions": [one["service"] for one in open_ones],
        "tags": metadata["tags"],
    }


# As a payload_schema: the handler gets dicts, with datetimes in them.

SCHEMA = {
    "user": {
        "personal_info": {
            "first_name": str,
            "last_name": str,
            "date_of_birth": datetime,
            "gender": str,
            "nationality": str,
        },
        "contact_info": {
            "email": str,
            "phone": str,
            "addresses": list[dict[str, str]],
            "emergency_contacts": [{"name": str, "relationship": str, "phone": str}],
        },
        "preferences": {
            "language": str,
            "timezone": str,
            "notifications": {"email": bool, "sms": bool, "push": bool},
            "privacy_settings": {"profile_visibility": str, "data_sharing": bool},
        },
        "subscriptions": [
            {
                "service": str,
                "plan": str,
                "start_date": datetime,
                "end_date": datetime | None,
                "features": list[str],
            }
        ],
    },
    "metadata": {
        "source": str,
        "created_by": str,
        "tags": list[str],
        "custom_fields": dict[str, Any],
    },
}


@app.action(payload_schema=SCHEMA)
def create_user_from_schema(payload: dict[str, Any]) -> dict[str, Any]:
    """Create a user, typed as a payload_schema."""
    user = payload["user"]
    person, contact = user["personal_info"], user["contact_info"]
    open_ones = [one for one in user["subscriptions"] if one["end_date"] is None]
    return {
        "name": f"{person['first_name']} {person['last_name']}",
        "born": person["date_of_birth"].date(),
        "emergency_contacts": [one["name"] for one in contact["emergency_contacts"]],
        "open_subscriptions": [one["service"] for one in open_ones],
        "tags": payload["metadata"]["tags"],
    }


if __name__ == "__main__":
    app.run()
